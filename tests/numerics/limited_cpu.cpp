// For a program that is to believe its processor has no AVX-512, or no AVX2 either: PTB_CPU_LEVEL
// is the highest x86-64 level that it sees, 3 or 2. Linked with --wrap=__cpu_indicator_init, behind
// which GCC's target_clones choose the variant of each of our loops. Runs before relocation is
// over, so it calls nothing of another library.
extern "C" {
extern unsigned __cpu_features2[];  // of libgcc: three words
int __real___cpu_indicator_init();

// noipa: the compiler does not see that these read what is written below.
[[gnu::noipa]] bool ptb_has_level_4() { return __builtin_cpu_supports("x86-64-v4") != 0; }
[[gnu::noipa]] bool ptb_has_level_3() { return __builtin_cpu_supports("x86-64-v3") != 0; }

int __wrap___cpu_indicator_init() {
  const int result = __real___cpu_indicator_init();
  // Which bit is a level's depends on the version of GCC: it is found by trying.
  const auto hide = [](bool (*is_there)()) {
    for (unsigned bit = 0; bit < 96 && is_there(); ++bit) {
      unsigned& word = __cpu_features2[bit / 32];
      const unsigned before = word;
      word = before & ~(1u << bit % 32);
      if (is_there()) word = before;
    }
  };
  hide(ptb_has_level_4);
  if (PTB_CPU_LEVEL < 3) hide(ptb_has_level_3);
  return result;
}
}
