#include "ptb_dist/io/parameters_file.hpp"

#include <hdf5.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <csignal>
#include <functional>
#include <limits>

#include "io/memory_backend.hpp"
#include "io/scratch.hpp"

namespace fs = std::filesystem;
using namespace ptb;
using namespace ptb::test;

namespace {

const ModelShape kModel{.vocab_size = 7, .hidden_size = 3, .num_layers = 2, .cell = {}};
const char* const kBias = "/parameters/lstm/1/bias";  // [12]

// Parameters of either width. Element i of the slab is value(i), exact in 32 bits.
struct Model {
  explicit Model(ElementType real) : backend(real), parameters(backend, kModel) {}

  static double value(std::size_t index) { return (static_cast<double>(index) - 50) / 8; }

  std::vector<double> values() {
    std::vector<double> result;
    const Tensor& slab = parameters.slab();
    if (slab.type() == ElementType::f64)
      return {slab.span<double>().begin(), slab.span<double>().end()};
    return {slab.span<float>().begin(), slab.span<float>().end()};
  }
  void fill() {
    std::vector<double> wide(static_cast<std::size_t>(parameters.slab().elements()));
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = value(i);
    const std::vector<float> narrow(wide.begin(), wide.end());
    backend.upload(parameters.slab(), backend.real_type() == ElementType::f64
                                          ? std::as_bytes(std::span(wide))
                                          : std::as_bytes(std::span(narrow)));
  }
  bool is_filled() {
    const std::vector<double> now = values();
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (now[i] != value(i)) return false;
    }
    return true;
  }
  void save(const fs::path& path) { save_parameters(path, backend, parameters); }
  Failure load(const fs::path& path) {
    return failure_of([&] { load_parameters(path, backend, parameters); });
  }

  MemoryBackend backend;
  Parameters parameters;
};

Failure failure_of_loading(const fs::path& path) { return Model(ElementType::f32).load(path); }

// A good file.
void save_filled(const fs::path& path) {
  Model model(ElementType::f32);
  model.fill();
  model.save(path);
}

hid_t space_of(std::initializer_list<hsize_t> extents) {
  return H5Screate_simple(static_cast<int>(extents.size()), extents.begin(), nullptr);
}

// A change of the upper layer's bias by the C API. Handles that die with the file are not closed.
using Change = std::function<void(hid_t file, hid_t creation)>;

// A good file without that bias, after `change`.
void save_changed(const fs::path& path, const Change& change) {
  save_filled(path);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  BOOST_REQUIRE(file >= 0);
  BOOST_REQUIRE(H5Ldelete(file, kBias, H5P_DEFAULT) >= 0);
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  change(file, creation);
  H5Pclose(creation);
  H5Fclose(file);
}

// The bias as it was, or with another value at its place 5, stored in the way of `creation`.
void add_bias(hid_t file, hid_t creation, hid_t type = H5T_IEEE_F32LE,
              const double* at_5 = nullptr) {
  Model model(ElementType::f64);
  model.fill();
  const Tensor bias = model.parameters.weights().layers.at(1).bias;
  std::vector<double> values(bias.span<double>().begin(), bias.span<double>().end());
  if (at_5 != nullptr) values[5] = *at_5;
  const hid_t space = space_of({12});
  const hid_t dataset = H5Dcreate2(file, kBias, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  BOOST_REQUIRE(
      H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0);
  H5Dclose(dataset);
  H5Sclose(space);
}

// A dataset in the bias' place that nobody has written to.
void add_unwritten(hid_t file, hid_t creation, hid_t type, std::initializer_list<hsize_t> extents) {
  const hid_t space = space_of(extents);
  const hid_t dataset = H5Dcreate2(file, kBias, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  BOOST_REQUIRE(dataset >= 0);
  H5Dclose(dataset);
  H5Sclose(space);
}

int python(const std::string& code) {
  return std::system(("/usr/bin/python3 -c '" + code + "' 2>/dev/null").c_str());
}

boost::test_tools::assertion_result has_h5py(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result result(python("import h5py") == 0);
  result.message() << "/usr/bin/python3 has no h5py";
  return result;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(parameters_file)

BOOST_AUTO_TEST_CASE(round_trip_in_either_width) {
  const Scratch scratch;
  for (const ElementType saved : {ElementType::f32, ElementType::f64}) {
    for (const ElementType loaded : {ElementType::f32, ElementType::f64}) {
      Model from(saved), to(loaded);
      from.fill();
      from.save(scratch / "model.h5");
      const std::uint64_t version = to.parameters.weights().version;
      BOOST_TEST(to.load(scratch / "model.h5").line == "");
      BOOST_TEST(to.is_filled());
      BOOST_TEST(to.parameters.weights().version > version);
    }
  }
}

BOOST_AUTO_TEST_CASE(doubles_keep_every_bit) {
  const Scratch scratch;
  Model from(ElementType::f64), to(ElementType::f64);
  from.parameters.slab().span<double>()[3] = 0.1;
  from.save(scratch / "model.h5");
  BOOST_TEST(to.load(scratch / "model.h5").line == "");
  BOOST_TEST(to.values().at(3) == 0.1);
}

BOOST_AUTO_TEST_CASE(same_parameters_give_the_same_bytes) {
  const Scratch scratch;
  save_filled(scratch / "a.h5");
  save_filled(scratch / "b.h5");
  BOOST_TEST((content(scratch / "a.h5") == content(scratch / "b.h5")));
  // Time stamps have whole seconds, so equal bytes alone would prove little.
  const hid_t file = H5Fopen((scratch / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  for (const char* name : {"/", "/parameters", kBias}) {
    const hid_t object = H5Oopen(file, name, H5P_DEFAULT);
    H5O_info_t info{};
    H5Oget_info1(object, &info);
    H5Oclose(object);
    BOOST_TEST((info.mtime == 0 && info.ctime == 0 && info.btime == 0), name);
  }
  H5Fclose(file);
}

BOOST_AUTO_TEST_CASE(other_ways_to_store_are_read) {
  const std::pair<const char*, Change> cases[] = {
      {"compact",
       [](hid_t file, hid_t creation) {
         H5Pset_layout(creation, H5D_COMPACT);
         add_bias(file, creation);
       }},
      {"chunks with all filters",
       [](hid_t file, hid_t creation) {
         const hsize_t chunk = 5;  // 12 is no multiple
         H5Pset_chunk(creation, 1, &chunk);
         H5Pset_shuffle(creation);
         H5Pset_deflate(creation, 9);
         H5Pset_fletcher32(creation);
         add_bias(file, creation);
       }},
      {"doubles of the other byte order",
       [](hid_t file, hid_t creation) { add_bias(file, creation, H5T_IEEE_F64BE); }},
      {"floats of the other byte order",
       [](hid_t file, hid_t creation) { add_bias(file, creation, H5T_IEEE_F32BE); }},
      {"other objects beside",
       [](hid_t file, hid_t creation) {
         add_bias(file, creation);
         H5Gclose(H5Gcreate2(file, "/vocabulary", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
       }},
  };
  const Scratch scratch;
  for (const auto& [name, change] : cases) {
    save_changed(scratch / "model.h5", change);
    Model model(ElementType::f32);
    BOOST_TEST(model.load(scratch / "model.h5").line == "", name);
    BOOST_TEST(model.is_filled(), name);
  }
}

BOOST_AUTO_TEST_CASE(hostile_objects_are_named_and_refused) {
  struct Case {
    const char* reason;
    Change change;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double too_large = 1e300;
  const Case cases[] = {
      {"is missing", [](hid_t, hid_t) {}},
      {"/parameters/lstm/1 is missing",
       [](hid_t file, hid_t) { H5Ldelete(file, "/parameters/lstm/1", H5P_DEFAULT); }},
      {"has shape [11], the model needs [12]",
       [](hid_t file, hid_t creation) { add_unwritten(file, creation, H5T_IEEE_F32LE, {11}); }},
      {"has shape [12,1], the model needs [12]",
       [](hid_t file, hid_t creation) {
         add_unwritten(file, creation, H5T_IEEE_F32LE, {12, 1});
       }},
      {"has shape [], the model needs [12]",
       [](hid_t file, hid_t creation) { add_unwritten(file, creation, H5T_IEEE_F32LE, {}); }},
      {"has shape [1099511627776], the model needs [12]",
       [](hid_t file, hid_t creation) {
         const hsize_t chunk = 1024;
         H5Pset_chunk(creation, 1, &chunk);
         add_unwritten(file, creation, H5T_IEEE_F32LE, {hsize_t{1} << 40});
       }},
      {"is not of 32- or 64-bit IEEE floats",
       [](hid_t file, hid_t creation) { add_bias(file, creation, H5T_STD_I32LE); }},
      {"is not of 32- or 64-bit IEEE floats",
       [](hid_t file, hid_t creation) {
         const hid_t text = H5Tcopy(H5T_C_S1);
         H5Tset_size(text, H5T_VARIABLE);
         add_unwritten(file, creation, text, {12});
         H5Tclose(text);
       }},
      {"the value at [5] is nan as a 32-bit float",
       [&](hid_t file, hid_t creation) { add_bias(file, creation, H5T_IEEE_F32LE, &nan); }},
      {"the value at [5] is inf as a 32-bit float",
       [&](hid_t file, hid_t creation) { add_bias(file, creation, H5T_IEEE_F64LE, &too_large); }},
      {"was never written",
       [](hid_t file, hid_t creation) { add_unwritten(file, creation, H5T_IEEE_F32LE, {12}); }},
      {"was never written",
       [](hid_t file, hid_t creation) {
         const hsize_t chunk = 4;
         H5Pset_chunk(creation, 1, &chunk);
         add_unwritten(file, creation, H5T_IEEE_F32LE, {12});
       }},
      {"or not wholly",  // one of two chunks
       [](hid_t file, hid_t creation) {
         const hsize_t chunk = 8, first = 2;
         H5Pset_chunk(creation, 1, &chunk);
         H5Pset_deflate(creation, 1);
         add_unwritten(file, creation, H5T_IEEE_F32LE, {12});
         const hid_t dataset = H5Dopen2(file, kBias, H5P_DEFAULT);
         const hid_t space = space_of({12}), memory = space_of({1});
         H5Sselect_elements(space, H5S_SELECT_SET, 1, &first);
         const float one = 1;
         H5Dwrite(dataset, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, &one);
         for (const hid_t handle : {space, memory}) H5Sclose(handle);
         H5Dclose(dataset);
       }},
      {"is not a dataset",
       [](hid_t file, hid_t) {
         H5Gclose(H5Gcreate2(file, kBias, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
       }},
      {"/parameters/lstm/1/bias is a soft or external link",
       [](hid_t file, hid_t) {
         H5Lcreate_soft("/parameters/lstm/0/bias", file, kBias, H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"/parameters/lstm/1 is a soft or external link",
       [](hid_t file, hid_t) {
         H5Ldelete(file, "/parameters/lstm/1", H5P_DEFAULT);
         H5Lcreate_soft("/parameters/lstm/0", file, "/parameters/lstm/1", H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"is a soft or external link",
       [](hid_t file, hid_t) {
         H5Lcreate_external("other.h5", kBias, file, kBias, H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"is stored in other files",
       [](hid_t file, hid_t creation) {
         H5Pset_external(creation, "/etc/passwd", 0, 48);
         add_unwritten(file, creation, H5T_IEEE_F32LE, {12});
       }},
      {"is stored in other files",
       [](hid_t file, hid_t creation) {
         const hid_t space = space_of({12});
         H5Pset_virtual(creation, space, "other.h5", kBias, space);
         add_unwritten(file, creation, H5T_IEEE_F32LE, {12});
         H5Sclose(space);
       }},
      {"has chunks larger than itself",
       [](hid_t file, hid_t creation) {
         const hsize_t chunk = hsize_t{1} << 29, now = 12, most = H5S_UNLIMITED;
         H5Pset_chunk(creation, 1, &chunk);
         const hid_t space = H5Screate_simple(1, &now, &most);
         H5Dclose(
             H5Dcreate2(file, kBias, H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
         H5Sclose(space);
       }},
      {"uses filter 5; only shuffle, gzip and fletcher32 are read",
       [](hid_t file, hid_t creation) {
         const hsize_t chunk = 12;
         H5Pset_chunk(creation, 1, &chunk);
         H5Pset_nbit(creation);
         add_bias(file, creation);
       }},
  };
  const Scratch scratch;
  for (const Case& one : cases) {
    save_changed(scratch / "model.h5", one.change);
    const Failure failure = failure_of_loading(scratch / "model.h5");
    BOOST_TEST(failure.code == 65, one.reason);
    BOOST_TEST(failure.names(one.reason), one.reason << ": " << failure.line);
    BOOST_TEST(failure.names((scratch / "model.h5").string() + ":/parameters/lstm/1/"),
               failure.line);
  }
}

BOOST_AUTO_TEST_CASE(a_model_of_another_size_is_refused) {
  const Scratch scratch;
  save_filled(scratch / "model.h5");
  MemoryBackend backend(ElementType::f32);
  ModelShape larger = kModel;
  larger.vocab_size = 8;
  Parameters parameters(backend, larger);
  const Failure failure =
      failure_of([&] { load_parameters(scratch / "model.h5", backend, parameters); });
  BOOST_TEST(failure.code == 65);
  BOOST_TEST(failure.names("/parameters/embedding: has shape [7,3], the model needs [8,3]"),
             failure.line);
}

BOOST_AUTO_TEST_CASE(what_is_no_hdf5_file_is_refused) {
  const Scratch scratch;
  put(scratch / "empty.h5", "");
  put(scratch / "text.h5", std::string(5000, 'x'));
  ::mkfifo((scratch / "fifo.h5").c_str(), 0600);
  fs::create_directory(scratch / "folder.h5");
  fs::create_symlink("loop.h5", scratch / "loop.h5");
  const struct {
    fs::path path;
    int code;
    const char* reason;
  } cases[] = {{scratch / "empty.h5", 65, "cannot open as HDF5: "},
               {scratch / "text.h5", 65, "cannot open as HDF5: file signature not found"},
               {scratch / "fifo.h5", 65, "is not a regular file"},
               {scratch / "folder.h5", 65, "is a folder"},
               {"/dev/zero", 65, "is not a regular file"},
               {scratch / "loop.h5", 74, "Too many levels of symbolic links"},
               {scratch / "absent.h5", 74, "No such file or directory"}};
  for (const auto& [path, code, reason] : cases) {
    const Failure failure = failure_of_loading(path);
    BOOST_TEST(failure.code == code, failure.line);
    BOOST_TEST(failure.names(path.string() + ": " + reason), failure.line);
  }
}

BOOST_AUTO_TEST_CASE(a_truncated_file_is_refused_wherever_it_ends) {
  const Scratch scratch;
  save_filled(scratch / "whole.h5");
  const std::string whole = content(scratch / "whole.h5");
  for (std::size_t length = 0; length < whole.size(); length += 61) {
    put(scratch / "cut.h5", whole.substr(0, length));
    BOOST_TEST(failure_of_loading(scratch / "cut.h5").code == 65, length);
  }
}

BOOST_AUTO_TEST_CASE(saving_replaces_the_old_file_as_a_whole) {
  const Scratch scratch;
  put(scratch / "model.h5", "old");
  save_filled(scratch / "model.h5");
  BOOST_TEST(failure_of_loading(scratch / "model.h5").line == "");
  BOOST_TEST(names_in(scratch.path()).size() == 1u);  // no temporary file
}

// A limit on the size of the file stands for a full disk, which would crash HDF5 1.10 at exit.
BOOST_AUTO_TEST_CASE(a_full_disk_leaves_the_old_file_and_no_temporary) {
  const Scratch scratch;
  put(scratch / "model.h5", "old");
  for (const rlim_t bytes : {0, 1, 2000}) {
    const int code = code_in_child([&] {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{bytes, bytes};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      save_filled(scratch / "model.h5");
    });
    BOOST_TEST(code == 74);
    BOOST_TEST(content(scratch / "model.h5") == "old");
    BOOST_TEST(names_in(scratch.path()).size() == 1u);
  }
}

BOOST_AUTO_TEST_CASE(unusable_targets_are_found_before_and_at_saving) {
  const Scratch scratch;
  fs::create_directory(scratch / "folder");
  // Stands for /dev/null: a defect here would replace that on the tester's machine.
  ::mkfifo((scratch / "fifo").c_str(), 0600);
  const struct {
    fs::path path;
    const char* reason;
  } cases[] = {{scratch / "no/model.h5", "No such file or directory"},
               {scratch / "folder", "is not a regular file"},
               {scratch / "fifo", "is not a regular file"},
               {scratch / std::string(250, 'x'), "File name too long"}};
  for (const auto& [path, reason] : cases) {
    for (const Failure& failure : {failure_of([&, &p = path] { check_can_save_parameters(p); }),
                                   failure_of([&, &p = path] { save_filled(p); })}) {
      BOOST_TEST(failure.code == 74);
      BOOST_TEST(failure.names(reason), failure.line);
    }
  }
  BOOST_TEST(fs::is_fifo(scratch / "fifo"));
  BOOST_TEST(failure_of([&] { check_can_save_parameters(scratch / "model.h5"); }).line == "");
  BOOST_TEST(names_in(scratch.path()).size() == 2u);  // the check leaves nothing
}

BOOST_AUTO_TEST_CASE(h5py_reads_and_writes_such_files, *boost::unit_test::precondition(has_h5py)) {
  const Scratch scratch;
  save_filled(scratch / "ours.h5");
  // The slab's values in order: reading them in the table's order and writing them again, changed
  // in every way that h5py offers, must lose nothing.
  const std::string code =
      "import h5py, numpy as np\n"
      "names = [\"embedding\", \"lstm/0/kernel\", \"lstm/0/bias\", \"lstm/1/kernel\","
      " \"lstm/1/bias\", \"softmax/weight\", \"softmax/bias\"]\n"
      "ours = h5py.File(\"" +
      (scratch / "ours.h5").string() +
      "\", \"r\")[\"parameters\"]\n"
      "assert ours[\"lstm/0/kernel\"].shape == (6, 12)\n"
      "assert all(ours[n].dtype == np.float32 for n in names)\n"
      "slab = np.concatenate([ours[n][()].ravel() for n in names])\n"
      "assert np.array_equal(slab, (np.arange(slab.size) - 50) / 8)\n"
      "theirs = h5py.File(\"" +
      (scratch / "theirs.h5").string() +
      "\", \"w\")\n"
      "for n in names: theirs.create_dataset(\"parameters/\" + n,"
      " data=ours[n][()].astype(\">f8\"), compression=\"gzip\", shuffle=True, fletcher32=True,"
      " maxshape=[None] * ours[n].ndim)\n";
  BOOST_TEST_REQUIRE(python(code) == 0);
  Model model(ElementType::f32);
  BOOST_TEST(model.load(scratch / "theirs.h5").line == "");
  BOOST_TEST(model.is_filled());
}

BOOST_AUTO_TEST_SUITE_END()
