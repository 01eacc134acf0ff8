// Shapes, and views that share one storage.
#include "ptb_dist/backend/tensor.hpp"

#include <boost/test/unit_test.hpp>
#include <cstring>

namespace ptb {
namespace {

// 0, 1, 2, ... as i32.
Tensor counting(Shape shape) {
  const auto count = static_cast<std::size_t>(shape.elements());
  std::shared_ptr<std::byte> data(new std::byte[count * 4], [](std::byte* p) { delete[] p; });
  Tensor tensor(data, ElementType::i32, shape);
  for (std::size_t k = 0; k < count; ++k) {
    tensor.data<std::int32_t>()[k] = static_cast<std::int32_t>(k);
  }
  return tensor;
}

bool is_internal(const Error& error) { return error.code() == ExitCode::internal; }

BOOST_AUTO_TEST_SUITE(tensor)

BOOST_AUTO_TEST_CASE(shapes_count_and_compare) {
  BOOST_TEST(Shape({20, 200}).elements() == 4000);
  BOOST_TEST(Shape({20, 0, 3}).elements() == 0);
  BOOST_TEST(Shape{}.elements() == 1);
  BOOST_TEST(Shape({20, 200}).text() == "[20,200]");
  BOOST_TEST(Shape{}.text() == "[]");
  BOOST_TEST((Shape({2, 3, 4}).tail() == Shape({3, 4})));
  BOOST_TEST((Shape({7}).tail() == Shape{}));
  BOOST_TEST((Shape({2, 3}).with_first(5) == Shape({5, 3})));
  BOOST_TEST(!(Shape({2, 3}) == Shape({2, 3, 1})));
  BOOST_CHECK_EXCEPTION(Shape{}.tail(), Error, is_internal);
  BOOST_CHECK_EXCEPTION(Shape({1, 1, 1, 1, 1}), Error, is_internal);
}

BOOST_AUTO_TEST_CASE(a_default_tensor_is_empty) {
  const Tensor none;
  BOOST_TEST(none.empty());
  BOOST_TEST(none.elements() == 0);
  BOOST_TEST(none.bytes() == 0U);
  BOOST_TEST(none.raw() == nullptr);
}

BOOST_AUTO_TEST_CASE(bytes_follow_the_type) {
  BOOST_TEST(counting({3, 5}).bytes() == 60U);
  BOOST_TEST(size_of(element_type<double>) == sizeof(double));
  BOOST_TEST(size_of(element_type<float>) == sizeof(float));
  BOOST_TEST(size_of(element_type<std::int32_t>) == sizeof(std::int32_t));
  BOOST_TEST(size_of(element_type<std::uint8_t>) == sizeof(std::uint8_t));
}

BOOST_AUTO_TEST_CASE(views_begin_where_they_should) {
  const Tensor t = counting({4, 2, 3});
  BOOST_TEST((t[2].shape() == Shape({2, 3})));
  BOOST_TEST(t[2].data<std::int32_t>()[0] == 12);
  BOOST_TEST(t[2][1][2].data<std::int32_t>()[0] == 17);
  BOOST_TEST((t.slice(1, 2).shape() == Shape({2, 2, 3})));
  BOOST_TEST(t.slice(1, 2).data<std::int32_t>()[0] == 6);
  BOOST_TEST(t.slice(4, 0).elements() == 0);
  BOOST_TEST((t.view({5, 4}).shape() == Shape({5, 4})));
  BOOST_TEST(t.view(7, {2, 2}).data<std::int32_t>()[3] == 10);
}

BOOST_AUTO_TEST_CASE(views_share_and_keep_the_storage) {
  Tensor whole = counting({4, 2});
  const Tensor part = whole[3];
  whole[3].data<std::int32_t>()[1] = 99;
  whole = Tensor();
  BOOST_TEST(part.data<std::int32_t>()[0] == 6);
  BOOST_TEST(part.data<std::int32_t>()[1] == 99);
}

BOOST_AUTO_TEST_CASE(a_view_beyond_its_tensor_or_of_another_type_is_a_defect) {
  const Tensor t = counting({4, 2});
  BOOST_CHECK_EXCEPTION(t[4], Error, is_internal);
  BOOST_CHECK_EXCEPTION(t[-1], Error, is_internal);
  BOOST_CHECK_EXCEPTION(t.slice(3, 2), Error, is_internal);
  BOOST_CHECK_EXCEPTION(t.slice(0, -1), Error, is_internal);
  BOOST_CHECK_EXCEPTION(t.view({9}), Error, is_internal);
  BOOST_CHECK_EXCEPTION(t.view(7, {2}), Error, is_internal);
  BOOST_CHECK_EXCEPTION(t.data<float>(), Error, is_internal);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace ptb
