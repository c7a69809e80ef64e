// A test program in forty lines: TEST(name) { CHECK(condition); CHECK_THROWS(expr, Error, "text");
// }
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace testing {

struct Test {
  const char* name;
  void (*body)();
};
inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline int& failures() {
  static int count = 0;
  return count;
}
struct Register {
  Register(const char* name, void (*body)()) { tests().push_back({name, body}); }
};
inline void fail(const char* file, int line, const std::string& what) {
  ++failures();
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

}  // namespace testing

#define TEST(name)                                                      \
  static void test_##name();                                            \
  static const testing::Register registered_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) testing::fail(__FILE__, __LINE__, #condition); \
  } while (0)

#define CHECK_LESS(value, limit)                                                       \
  do {                                                                                 \
    const double got = (value);                                                        \
    if (!(got < (limit))) {                                                            \
      testing::fail(__FILE__, __LINE__,                                                \
                    #value " is " + std::to_string(got * 1e9) + "e-9, not < " #limit); \
    }                                                                                  \
  } while (0)

// The expression throws Error, and the message contains `text`.
#define CHECK_THROWS(expression, Error, text)                                         \
  do {                                                                                \
    std::string caught = "nothing";                                                   \
    try {                                                                             \
      (void)(expression);                                                             \
    } catch (const Error& error) {                                                    \
      caught = error.what();                                                          \
      if (caught.find(text) != std::string::npos) break;                              \
    }                                                                                 \
    testing::fail(__FILE__, __LINE__,                                                 \
                  #expression " threw '" + caught + "', expected " #Error " with '" + \
                      std::string(text) + "'");                                       \
  } while (0)
