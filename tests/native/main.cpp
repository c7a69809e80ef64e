#include <exception>

#include "testing.h"

int main() {
  int failed = 0;
  for (const testing::Test& test : testing::tests()) {
    const int before = testing::failures();
    try {
      test.body();
    } catch (const std::exception& error) {
      testing::fail(test.name, 0, std::string("unexpected exception: ") + error.what());
    }
    if (testing::failures() != before) {
      ++failed;
      std::fprintf(stderr, "FAILED %s\n", test.name);
    }
  }
  const auto count = static_cast<int>(testing::tests().size());
  std::printf("%d passed, %d failed\n", count - failed, failed);
  return failed == 0 && count > 0 ? 0 : 1;
}
