// What a library run has to know of every file before any is opened: names and times of folders,
// keys of outputs and of work. What Python would do for each file with objects, in columns; keys
// are Python's own hashes, so both sides may make them.
#include "bindings/library_module.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "bindings/columns.h"
#include "bindings/folder_listing.h"

namespace py = pybind11;

namespace fxfast {
namespace {

// The names of a file table, each below the folder that its row says.
class Paths {
 public:
  Paths(const py::buffer& names, const py::buffer& ends, const py::buffer& folder,
        std::vector<std::string> heads)
      : names_(names), ends_(ends), folder_(folder), heads_(std::move(heads)) {}

  std::size_t folder(std::size_t row) const {
    const auto folder = static_cast<std::size_t>(folder_[row]);
    if (folder >= heads_.size()) throw InputError("folder: expected one that is named");
    return folder;
  }
  const std::string& head(std::size_t folder) const { return heads_[folder]; }

  void write(std::size_t row, std::string& path) const {
    const auto begin = static_cast<std::size_t>(ends_[row]);
    const auto end = static_cast<std::size_t>(ends_[row + 1]);
    if (begin > end || end > names_.size()) throw InputError("name: expected one inside the names");
    path = heads_[folder(row)];
    path.append(names_.data() + begin, end - begin);
  }

 private:
  Column<char> names_;
  Column<std::int64_t> ends_;
  Column<std::int32_t> folder_;
  std::vector<std::string> heads_;
};

// --- folders ---------------------------------------------------------------------

[[noreturn]] void fail(int error, const py::bytes& path) {
  errno = error;
  PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path.ptr());
  throw py::error_already_set();
}

const char* c_path(const py::bytes& path) {
  const std::string_view text = path;
  if (text.find('\0') != std::string_view::npos) fail(EINVAL, path);
  return text.data();
}

struct States {
  Numbers size, mtime_ns;
  std::vector<std::uint64_t> inode, device;

  void add(const FileState& state) {
    size.push_back(state.size);
    mtime_ns.push_back(state.mtime_ns);
    inode.push_back(state.inode);
    device.push_back(state.device);
  }
};

std::unique_ptr<FolderNames> list_folder(const py::bytes& path,
                                         const std::vector<std::string>& suffixes) {
  auto names = std::make_unique<FolderNames>();
  const char* text = c_path(path);
  int error = 0;
  {
    py::gil_scoped_release release;
    error = names->list(text, suffixes);
  }
  if (error != 0) fail(error, path);
  return names;
}

// Some rows of a folder as columns: names, where each ends, size, time, inode, device; and what
// cannot be looked at: its place among the rows and the system's error, -1 where it is no file.
py::tuple rows_of(const FolderNames& folder, std::size_t begin, std::size_t end,
                  std::int64_t names_before) {
  if (begin > end || end > folder.size()) throw InputError("rows: expected some of the folder");
  std::string names;
  Numbers ends;
  States states;
  std::vector<std::pair<std::size_t, int>> bad;
  {
    py::gil_scoped_release release;
    for (std::size_t row = begin; row < end; ++row) {
      FileState state;
      if (const int error = folder.look(row, state)) bad.emplace_back(row - begin, error);
      names += folder.name(row);
      ends.push_back(names_before + static_cast<std::int64_t>(names.size()));
      states.add(state);
    }
  }
  return py::make_tuple(bytes_of(names), packed(ends), packed(states.size), packed(states.mtime_ns),
                        packed(states.inode), packed(states.device), bad);
}

// A folder of outputs, some entries at a time: those that are not hidden as columns.
class OutputFolder {
 public:
  std::vector<std::string> hidden;

  OutputFolder(py::bytes path, std::string head) : path_(std::move(path)), head_(std::move(head)) {
    if (const int error = folder_.open(c_path(path_))) fail(error, path_);
  }

  // Hash of the head and the name, size, time, inode and device of the next ones; none at the end.
  py::tuple next(std::size_t count) {
    States states;
    Numbers keys;
    int error = 0;
    while (keys.size() < count) {
      const dirent* entry = folder_.next(error);
      if (entry == nullptr) break;
      if (entry->d_name[0] == '.') {
        hidden.emplace_back(entry->d_name);
        continue;
      }
      struct stat found;
      if (folder_.look(entry->d_name, found) != 0) continue;  // it is gone
      states.add(FileState(found));
      text_ = head_;
      text_ += entry->d_name;
      keys.push_back(hash_of(text_));
    }
    if (error != 0) fail(error, path_);
    return py::make_tuple(packed(keys), packed(states.size), packed(states.mtime_ns),
                          packed(states.inode), packed(states.device));
  }

 private:
  OpenFolder folder_;
  py::bytes path_;
  std::string head_, text_;
};

py::list listed(const std::vector<std::string>& names) {
  py::list found;
  for (const auto& name : names) found.append(bytes_of(name));
  return found;
}

// --- keys ------------------------------------------------------------------------

// The suffix with its dot; empty where there is none.
std::string_view suffix_of(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  if (dot == std::string_view::npos || path.find('/', dot) != std::string_view::npos) return {};
  return path.substr(dot);
}

// For each row the hash of its output, the path with another suffix, and that of what outputs are
// told apart by where case or normal form do not count; and which folders have outputs.
py::tuple output_keys(const Paths& paths, std::size_t folders, const py::buffer& rows,
                      const py::function& output_suffix, const py::function& folded) {
  std::unordered_map<std::string, std::string> suffixes;
  Numbers keys, folded_keys;
  std::vector<char> used(folders, 0);
  std::string path;
  const Column<std::int64_t> wanted(rows);
  keys.reserve(wanted.size());
  folded_keys.reserve(wanted.size());
  for (std::size_t n = 0; n < wanted.size(); ++n) {
    const auto row = static_cast<std::size_t>(wanted[n]);
    paths.write(row, path);
    used[paths.folder(row)] = 1;
    const std::string suffix(suffix_of(path));
    const auto [found, is_new] = suffixes.try_emplace(suffix);
    if (is_new) found->second = output_suffix(py::bytes(suffix)).cast<std::string>();
    path.replace(path.size() - suffix.size(), suffix.size(), found->second);
    keys.push_back(hash_of(path));
    bool is_ascii = true;
    for (char& c : path) {
      is_ascii = is_ascii && static_cast<unsigned char>(c) < 128;
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    if (is_ascii) {
      folded_keys.push_back(hash_of(path));
    } else {
      paths.write(row, path);
      path.replace(path.size() - suffix.size(), suffix.size(), found->second);
      folded_keys.push_back(hash_of(folded(py::bytes(path))));
    }
  }
  py::list with_outputs;
  for (std::size_t folder = 0; folder < folders; ++folder) {
    if (used[folder]) with_outputs.append(folder);
  }
  return py::make_tuple(packed(keys), packed(folded_keys), with_outputs);
}

// For each job the hash of input, its size and time, and the run.
py::bytes work_keys(const Paths& paths, const py::buffer& rows, const py::buffer& jobs,
                    const py::buffer& size, const py::buffer& mtime_ns, const py::list& runs) {
  const Column<std::int64_t> all_rows(rows), wanted(jobs), sizes(size), times(mtime_ns);
  Numbers keys;
  keys.reserve(wanted.size());
  std::string path;
  const std::size_t count = runs.size();
  if (count == 0) throw InputError("runs: expected at least one");
  for (std::size_t n = 0; n < wanted.size(); ++n) {
    const auto job = static_cast<std::size_t>(wanted[n]);
    const auto row = static_cast<std::size_t>(all_rows[job / count]);
    paths.write(row, path);
    keys.push_back(work_key(bytes_of(path), sizes[row], times[row], runs[job % count]));
  }
  return packed(keys);
}

// Where keys are among those of `use`. Keys are hashes already: their low bits are a place to
// begin.
class KeyIndex {
 public:
  KeyIndex(const py::buffer& keys, const py::buffer& use) : keys_(keys) {
    const Column<std::uint8_t> used(use);
    std::size_t slots = 16;
    while (2 * slots < 3 * keys_.size()) slots *= 2;
    table_.assign(slots, kNone);
    for (std::size_t n = 0; n < keys_.size(); ++n) {
      if (used[n] != 0) table_[slot_of(keys_[n])] = static_cast<std::int32_t>(n);
    }
  }
  // For each wanted key its last place, -1 where it is not there.
  py::bytes places(const py::buffer& wanted) const {
    const Column<std::int64_t> asked(wanted);
    std::vector<std::int32_t> found;
    found.reserve(asked.size());
    for (std::size_t n = 0; n < asked.size(); ++n) found.push_back(table_[slot_of(asked[n])]);
    return packed(found);
  }

 private:
  static constexpr std::int32_t kNone = -1;

  std::size_t slot_of(std::int64_t key) const {
    const std::size_t mask = table_.size() - 1;
    std::size_t slot = static_cast<std::size_t>(key) & mask;
    while (table_[slot] != kNone && keys_[static_cast<std::size_t>(table_[slot])] != key) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  Column<std::int64_t> keys_;
  std::vector<std::int32_t> table_;
};

}  // namespace

void bind_library(py::module_& module) {
  py::class_<FolderNames>(module, "FolderNames")
      .def(py::init(&list_folder), py::arg("path"), py::arg("suffixes"))
      .def("__len__", &FolderNames::size)
      .def_property_readonly("others",
                             [](const FolderNames& folder) { return listed(folder.others); })
      .def("before",
           [](const FolderNames& folder, const py::bytes& name) { return folder.before(name); })
      .def("rows", &rows_of, py::arg("begin"), py::arg("end"), py::arg("names_before"));
  py::class_<OutputFolder>(module, "OutputFolder")
      .def(py::init<py::bytes, std::string>(), py::arg("path"), py::arg("head"))
      .def("next", &OutputFolder::next, py::arg("count"))
      .def_property_readonly("hidden",
                             [](const OutputFolder& folder) { return listed(folder.hidden); });
  py::class_<KeyIndex>(module, "KeyIndex")
      .def(py::init<const py::buffer&, const py::buffer&>(), py::arg("keys"), py::arg("use"))
      .def("places", &KeyIndex::places, py::arg("wanted"));
  const auto paths = [](const py::buffer& names, const py::buffer& ends, const py::buffer& folder,
                        const std::vector<std::string>& heads) {
    return std::make_unique<Paths>(names, ends, folder, heads);
  };
  py::class_<Paths>(module, "Paths")
      .def(py::init(paths), py::arg("names"), py::arg("ends"), py::arg("folder"), py::arg("heads"))
      .def("output_keys", &output_keys, py::arg("folders"), py::arg("rows"),
           py::arg("output_suffix"), py::arg("folded"))
      .def("work_keys", &work_keys, py::arg("rows"), py::arg("jobs"), py::arg("size"),
           py::arg("mtime_ns"), py::arg("runs"));
  bind_journal(module);
}

}  // namespace fxfast
