// The names in a folder and what the system says of them, packed.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace fxfast {

struct FileState {
  std::int64_t size, mtime_ns;
  std::uint64_t inode, device;

  FileState() : size(0), mtime_ns(0), inode(0), device(0) {}
  explicit FileState(const struct stat& found)
      : size(found.st_size), inode(found.st_ino), device(found.st_dev) {
    // A file may claim any year; what does not fit matches no line of a journal.
    if (__builtin_mul_overflow(std::int64_t{found.st_mtim.tv_sec}, 1'000'000'000, &mtime_ns) ||
        __builtin_add_overflow(mtime_ns, std::int64_t{found.st_mtim.tv_nsec}, &mtime_ns)) {
      mtime_ns = std::numeric_limits<std::int64_t>::max();
    }
  }
};

// An open folder, entry by entry.
class OpenFolder {
 public:
  // 0, or what the system answers.
  int open(const char* path) {
    const int fd = ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    folder_.reset(fdopendir(fd));
    if (folder_ != nullptr) return 0;
    const int error = errno;
    ::close(fd);
    return error;
  }
  // The next entry but "." and "..": none at the end, and none with `error` where that failed.
  const dirent* next(int& error) {
    while (true) {
      errno = 0;
      const dirent* entry = readdir(folder_.get());
      error = entry == nullptr ? errno : 0;
      if (entry == nullptr) return nullptr;
      const std::string_view name(entry->d_name);
      if (name != "." && name != "..") return entry;
    }
  }
  // About as much as all names take, where the file system says it.
  std::size_t bytes_hint() const {
    struct stat found;
    if (fstat(dirfd(folder_.get()), &found) != 0 || found.st_size < 0) return 0;
    return std::min(static_cast<std::size_t>(found.st_size), std::size_t{1} << 26);
  }
  // What the system says of a name, links not followed: 0, or its error.
  int look(const char* name, struct stat& found) const {
    return fstatat(dirfd(folder_.get()), name, &found, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
  }

 private:
  struct Close {
    void operator()(DIR* folder) const { closedir(folder); }
  };
  std::unique_ptr<DIR, Close> folder_;
};

// The names of plain files with one of some suffixes (in lower case), in their order; `others` are
// those of what else is there and not hidden, but for plain files of other kinds.
class FolderNames {
 public:
  std::vector<std::string> others;

  int list(const char* path, const std::vector<std::string>& suffixes) {
    if (const int error = folder_.open(path)) return error;
    // What is reserved and not used takes no memory; what grows leaves holes.
    const std::size_t hint = folder_.bytes_hint();
    names_.reserve(hint);
    begins_.reserve(hint / kLeastEntryBytes);
    int error = 0;
    while (const dirent* entry = folder_.next(error)) {
      const std::string_view name(entry->d_name);
      if (name.front() == '.') continue;
      const bool is_plain = type_of(*entry) == DT_REG, is_wanted = has_suffix(name, suffixes);
      if (is_plain && is_wanted) {
        names_ += name;
        names_ += '\0';
        begins_.push_back(static_cast<std::uint32_t>(names_.size()));
      } else if (!is_plain) {
        others.emplace_back(name);
      }
    }
    order_.resize(begins_.size() - 1);
    std::iota(order_.begin(), order_.end(), 0u);
    std::sort(order_.begin(), order_.end(),
              [this](std::uint32_t a, std::uint32_t b) { return named(a) < named(b); });
    std::sort(others.begin(), others.end());
    return error;
  }
  std::size_t size() const { return order_.size(); }
  std::string_view name(std::size_t row) const { return named(order_[row]); }
  // 0, what the system answers, or -1 where the file is a plain one no more.
  int look(std::size_t row, FileState& state) const {
    struct stat found;
    if (const int error = folder_.look(name(row).data(), found)) return error;
    state = FileState(found);
    return S_ISREG(found.st_mode) ? 0 : -1;
  }
  // How many names are smaller.
  std::size_t before(std::string_view wanted) const {
    const auto at = std::lower_bound(
        order_.begin(), order_.end(), wanted,
        [this](std::uint32_t file, std::string_view other) { return named(file) < other; });
    return static_cast<std::size_t>(at - order_.begin());
  }

 private:
  // Some file systems do not say it with the name.
  unsigned char type_of(const dirent& entry) const {
    struct stat found;
    if (entry.d_type != DT_UNKNOWN || folder_.look(entry.d_name, found) != 0) return entry.d_type;
    return IFTODT(found.st_mode);
  }
  std::string_view named(std::uint32_t file) const {
    return {names_.data() + begins_[file], begins_[file + 1] - begins_[file] - 1};
  }
  static bool has_suffix(std::string_view name, const std::vector<std::string>& suffixes) {
    const std::size_t dot = name.rfind('.');
    if (dot == std::string_view::npos) return false;
    std::string suffix(name.substr(dot));
    for (char& c : suffix) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return std::find(suffixes.begin(), suffixes.end(), suffix) != suffixes.end();
  }

  static constexpr std::size_t kLeastEntryBytes = 12;

  OpenFolder folder_;
  std::string names_;  // each with a zero behind it
  std::vector<std::uint32_t> begins_{0}, order_;
};

}  // namespace fxfast
