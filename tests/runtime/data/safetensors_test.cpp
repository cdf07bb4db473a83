#include "runtime/data/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/runtime/data/format_bytes.h"
#include "tests/runtime/data/memory_file_system.h"

namespace qft {
namespace {

constexpr char kPath[] = "folder/model.safetensors";

const char kHeader[] = R"({"__metadata__":{"format":"pt"},)"
                       R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                       R"("b":{"dtype":"I8","shape":[4],"data_offsets":[24,28]},)"
                       R"("s":{"dtype":"F32","shape":[],"data_offsets":[28,32]}}   )";

std::string Data() {
  return FloatBytes({0, 1, 2, 3, 4, 5}) + "\1\2\3\4" + FloatBytes({7});
}

StatusOr<SafetensorsFile> OpenBytes(const std::string& bytes) {
  static MemoryFileSystem fs;  // outlives the file that is returned
  fs.files[kPath] = bytes;
  return OpenSafetensorsFile(fs, kPath);
}

// One tensor "t" described by `entry`, over `data_bytes` zero bytes.
StatusOr<SafetensorsFile> OpenEntry(const std::string& entry, size_t data_bytes) {
  return OpenBytes(Safetensors("{\"t\":" + entry + "}", std::string(data_bytes, '\0')));
}

void ReadEverything(const TensorSource& source) {
  for (const std::string& name : source.Names()) {
    const TensorInfo& info = *source.Find(name);
    std::vector<float> values(static_cast<size_t>(info.Rows() * info.Cols()));
    (void)source.ReadRows(name, 0, info.Rows(), values.data());
  }
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const auto file = OpenBytes(Safetensors(kHeader, Data()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata.at("format"), "pt");
  EXPECT_EQ(file->tensors->Names(), (std::vector<std::string>{"a", "b", "s"}));
  EXPECT_EQ(file->tensors->Find("a")->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file->tensors->Find("none"), nullptr);
  std::vector<float> values(6);
  ASSERT_TRUE(file->tensors->ReadRows("a", 0, 2, values.data()).ok());
  EXPECT_EQ(values, (std::vector<float>{0, 1, 2, 3, 4, 5}));
  ASSERT_TRUE(file->tensors->ReadRows("a", 1, 1, values.data()).ok());
  EXPECT_EQ(values[0], 3);
  ASSERT_TRUE(file->tensors->ReadRows("s", 0, 1, values.data()).ok());
  EXPECT_EQ(values[0], 7);
  int8_t codes[2];
  ASSERT_TRUE(file->tensors->ReadBytes("b", 1, 2, codes).ok());
  EXPECT_EQ(codes[1], 3);
}

TEST(Safetensors, ReadsRowsLongerThanAChunk) {
  constexpr int64_t kCols = 300'001;
  std::vector<float> wanted(2 * kCols);
  for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = static_cast<float>(i);
  const auto file = OpenBytes(
      Safetensors(R"({"t":{"dtype":"F32","shape":[2,300001],"data_offsets":[0,2400008]}})",
                  FloatBytes(wanted)));
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<float> values(wanted.size());
  ASSERT_TRUE(file->tensors->ReadRows("t", 0, 2, values.data()).ok());
  EXPECT_EQ(values, wanted);
}

TEST(Safetensors, RefusesWrongRequests) {
  const auto file = OpenBytes(Safetensors(kHeader, Data()));
  ASSERT_TRUE(file.ok());
  const StoredTensorSource& source = *file->tensors;
  float value[6];
  EXPECT_EQ(GetErrorInfo(source.ReadRows("none", 0, 1, value)).code, ErrorCode::kNotFound);
  EXPECT_EQ(GetErrorInfo(source.ReadRows("b", 0, 1, value)).code, ErrorCode::kUnsupported);
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const std::pair<int64_t, int64_t> bad_rows[] = {{0, 3}, {2, 1}, {-1, 1}, {0, -1}, {kMax, kMax}};
  for (const auto& [begin, count] : bad_rows) {
    EXPECT_EQ(GetErrorInfo(source.ReadRows("a", begin, count, value)).code, ErrorCode::kOutOfRange);
  }
  EXPECT_TRUE(source.ReadRows("a", 2, 0, value).ok());
  EXPECT_EQ(GetErrorInfo(source.ReadBytes("b", 1, 4, value)).code, ErrorCode::kOutOfRange);
  EXPECT_EQ(GetErrorInfo(source.ReadBytes("b", ~uint64_t{0}, 2, value)).code,
            ErrorCode::kOutOfRange);
}

TEST(Safetensors, NamesTheTensorAndPlaceOfANonFiniteValue) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const auto file =
        OpenBytes(Safetensors(R"({"weights":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})",
                              FloatBytes({1, 2, 3, bad})));
    ASSERT_TRUE(file.ok());
    float values[4];
    EXPECT_TRUE(file->tensors->ReadRows("weights", 0, 1, values).ok());
    const Status status = file->tensors->ReadRows("weights", 1, 1, values);
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData);
    EXPECT_NE(status.message().find("weights: the value at row 1, column 1"),
              absl::string_view::npos)
        << status;
  }
}

TEST(Safetensors, RefusesLyingHeaderLengths) {
  const std::string good = Safetensors(kHeader, Data());
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, sizeof(kHeader) - 2, uint64_t{sizeof(kHeader)},
        uint64_t{good.size() - 8}, uint64_t{good.size()}, uint64_t{1} << 32, uint64_t{1} << 63,
        ~uint64_t{0}}) {
    const auto file = OpenBytes(Bytes(length) + good.substr(8));
    ASSERT_FALSE(file.ok()) << length;
    EXPECT_EQ(GetErrorInfo(file.status()).code, ErrorCode::kCorrupt) << length;
  }
}

TEST(Safetensors, KnowsAPointerOfGitLfs) {
  const auto file =
      OpenBytes("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n");
  EXPECT_EQ(GetErrorInfo(file.status()).code, ErrorCode::kBadData);
  EXPECT_NE(file.status().message().find("Git LFS"), absl::string_view::npos) << file.status();
}

TEST(Safetensors, RefusesWhatIsNoHeader) {
  const std::string deep(5000, '[');
  for (const std::string& header :
       {std::string("not JSON"), std::string("[]"), std::string("1"), std::string("null"), deep,
        std::string("{\"t\":{}}"), std::string("{\"t\":1}"), std::string("{\"__metadata__\":1}"),
        std::string("{\"__metadata__\":{\"a\":1}}"), std::string("{}\0", 3)}) {
    EXPECT_FALSE(OpenBytes(Safetensors(header, "")).ok()) << header.substr(0, 50);
  }
  EXPECT_TRUE(OpenBytes(Safetensors("{}", "")).ok());
}

TEST(Safetensors, RefusesBadEntries) {
  const char* bad[] = {
      R"({"dtype":"F32","shape":[2]})",
      R"({"shape":[2],"data_offsets":[0,8]})",
      R"({"dtype":"F32","data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1})",
      R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})",
      R"({"dtype":"F64","shape":[2],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[99999999999999999999999],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]})",
      R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]})",
      R"({"dtype":"F32","shape":[2],"data_offsets":[0]})",
      R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})",
      R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})",
      R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})",
      R"({"dtype":"F32","shape":[2],"data_offsets":["0","8"]})",
      R"({"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551616]})",
      R"({"dtype":"F32","shape":[2],"data_offsets":[18446744073709551600,18446744073709551608]})",
  };
  EXPECT_TRUE(OpenEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 8).ok());
  for (const char* entry : bad) EXPECT_FALSE(OpenEntry(entry, 8).ok()) << entry;
}

TEST(Safetensors, NamesTheTensorAndTypeItCannotRead) {
  const auto file = OpenEntry(R"({"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]})", 8);
  EXPECT_EQ(GetErrorInfo(file.status()).code, ErrorCode::kUnsupported);
  EXPECT_NE(file.status().message().find("tensor t: values of type F8_E4M3"),
            absl::string_view::npos)
      << file.status();
}

TEST(Safetensors, RefusesGapsOverlapsAndRests) {
  const auto open = [](int a_begin, int b_begin, size_t data_bytes) {
    const auto entry = [](int begin) {
      return R"({"dtype":"I8","shape":[4],"data_offsets":[)" + std::to_string(begin) + "," +
             std::to_string(begin + 4) + "]}";
    };
    return OpenBytes(Safetensors("{\"a\":" + entry(a_begin) + ",\"b\":" + entry(b_begin) + "}",
                                 std::string(data_bytes, 'x')))
        .ok();
  };
  EXPECT_TRUE(open(0, 4, 8));
  EXPECT_TRUE(open(4, 0, 8));
  EXPECT_FALSE(open(0, 5, 9));  // gap
  EXPECT_FALSE(open(1, 5, 9));  // gap before the first
  EXPECT_FALSE(open(0, 3, 7));  // overlap
  EXPECT_FALSE(open(0, 0, 8));  // the same place
  EXPECT_FALSE(open(0, 4, 7));  // past the end
  EXPECT_FALSE(open(0, 4, 9));  // bytes of no tensor
}

TEST(Safetensors, RefusesDuplicateAndUnprintableNames) {
  const std::string entry = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  EXPECT_FALSE(OpenBytes(Safetensors("{\"a\":" + entry + ",\"a\":" + entry + "}", "")).ok());
  for (const std::string& name : {std::string(), std::string("\\u0000"), std::string("\\n"),
                                  std::string("\\u00e9"), std::string(513, 'x')}) {
    EXPECT_FALSE(OpenBytes(Safetensors("{\"" + name + "\":" + entry + "}", "")).ok()) << name;
  }
}

TEST(Safetensors, EveryPrefixIsRefused) {
  const std::string good = Safetensors(kHeader, Data());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(OpenBytes(good.substr(0, size)).ok()) << size;
  }
}

TEST(Safetensors, AnyFlippedHeaderByteIsRefusedOrReadable) {
  const std::string good = Safetensors(kHeader, Data());
  for (size_t at = 0; at < good.size() - Data().size(); ++at) {
    for (const int flip : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const auto file = OpenBytes(bytes);
      if (file.ok()) ReadEverything(*file->tensors);
    }
  }
}

class SafetensorsFolder : public testing::Test {
 protected:
  SafetensorsFolder() {
    fs_.files["m/one"] = Shard("a", 1);
    fs_.files["m/two"] = Shard("b", 2);
    SetIndex(R"({"metadata":{"total_size":8},"weight_map":{"a":"one","b":"two"}})");
  }

  static std::string Shard(const std::string& name, float value) {
    return Safetensors("{\"" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                       FloatBytes({value}));
  }
  void SetIndex(const std::string& text) { fs_.files["m/model.safetensors.index.json"] = text; }
  Status Open() { return OpenSafetensorsFolder(fs_, "m").status(); }

  MemoryFileSystem fs_;
};

TEST_F(SafetensorsFolder, ReadsAllShards) {
  const auto source = OpenSafetensorsFolder(fs_, "m");
  ASSERT_TRUE(source.ok()) << source.status();
  float value;
  ASSERT_TRUE((*source)->ReadRows("a", 0, 1, &value).ok());
  EXPECT_EQ(value, 1);
  ASSERT_TRUE((*source)->ReadRows("b", 0, 1, &value).ok());
  EXPECT_EQ(value, 2);
}

TEST_F(SafetensorsFolder, PrefersTheSingleFile) {
  fs_.files["m/model.safetensors"] = Shard("c", 3);
  const auto source = OpenSafetensorsFolder(fs_, "m");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->Names(), std::vector<std::string>{"c"});
}

TEST_F(SafetensorsFolder, MissingFiles) {
  fs_.files.erase("m/two");
  EXPECT_EQ(GetErrorInfo(Open()).code, ErrorCode::kFileNotFound);
  fs_.files.erase("m/model.safetensors.index.json");
  EXPECT_EQ(GetErrorInfo(Open()).code, ErrorCode::kFileNotFound);
}

TEST_F(SafetensorsFolder, IndexNamesATensorThatIsNowhere) {
  SetIndex(R"({"weight_map":{"a":"one","b":"two","gone":"two"}})");
  EXPECT_NE(Open().message().find("gone"), absl::string_view::npos) << Open();
}

TEST_F(SafetensorsFolder, ShardHoldsWhatTheIndexDoesNotSay) {
  SetIndex(R"({"weight_map":{"a":"one","x":"two"}})");
  EXPECT_EQ(GetErrorInfo(Open()).code, ErrorCode::kCorrupt);
  SetIndex(R"({"weight_map":{"a":"two","b":"one"}})");
  EXPECT_EQ(GetErrorInfo(Open()).code, ErrorCode::kCorrupt);
}

TEST_F(SafetensorsFolder, RefusesBadIndexes) {
  for (const char* index :
       {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})",
        R"({"weight_map":{"a":"one","a":"two"}})", R"({"weight_map":{"a":"../one"}})",
        R"({"weight_map":{"a":"/etc/passwd"}})", R"({"weight_map":{"a":".."}})",
        R"({"weight_map":{"a":""}})", R"({"weight_map":{"a\n":"one"}})"}) {
    SetIndex(index);
    EXPECT_EQ(GetErrorInfo(Open()).code, ErrorCode::kCorrupt) << index << Open();
  }
}

}  // namespace
}  // namespace qft
