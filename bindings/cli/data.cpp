#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "bindings/cli/command.h"
#include "bindings/cli/data_options.h"
#include "bindings/cli/evaluation.h"
#include "bindings/cli/files.h"
#include "bindings/cli/model_path.h"
#include "bindings/cli/source.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;

constexpr char kDataExample[] =
    "Example:\n"
    "  qft data --model SmolLM2-135M-Instruct --data conversations.jsonl --examples 2\n"
    "  qft data --model SmolLM2-135M --data a.jsonl=0.7 --data b.jsonl=0.3 --json\n\n"
    "What is learnt stands in \xE2\x9F\xA6 \xE2\x9F\xA7.";

constexpr char kLearntBegin[] = "\xE2\x9F\xA6";  // mathematical white square brackets
constexpr char kLearntEnd[] = "\xE2\x9F\xA7";
constexpr int64_t kMostReasons = 10;

struct FileCounts {
  int64_t documents = 0;
  int64_t held_out = 0;
  int64_t tokens = 0;
  int64_t learnt = 0;
  int64_t cut = 0;
  int64_t dropped = 0;
};

struct Piece {
  std::string text;
  bool learnt = false;
};

int64_t LearntTokens(const qft_document& document) {
  int64_t count = 0;
  for (int64_t i = 0; i < document.tokens; ++i) count += document.learnt[i];
  return count;
}

// How far `text` begins as `before` does, in whole characters.
size_t CommonBytes(const std::string& before, const std::string& text) {
  const size_t most = std::min(before.size(), text.size());
  size_t common = 0;
  while (common < most && before[common] == text[common]) ++common;
  while (common > 0 && common < text.size() && (text[common] & 0xC0) == 0x80) --common;
  return common;
}

// Control characters other than tabs and line ends would steer the terminal.
std::string Printable(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_control = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
    result += is_control ? Format("\\x%02x", byte) : std::string(1, c);
  }
  return result;
}

class Data : public Command {
 public:
  explicit Data(CLI::App& program)
      : Command(program, "data", "Show how data becomes tokens, what of it is learnt, what is cut"),
        table_(app_) {
    table_.Add("Input", "model", model_, "Model whose tokenizer and chat template count")
        ->required();
    AddDataOptions("Input", &data_, &table_)->required();
    table_.Add("Batch", "micro-batch-tokens", batch_tokens_, "Tokens of a batch")
        ->check(CLI::PositiveNumber);
    table_.Add("Batch", "sequence", sequence_, "Longest document in tokens; longer ones are cut")
        ->check(CLI::PositiveNumber);
    table_.Add("Batch", "held-out", held_out_, "Share of the documents kept for evaluation")
        ->check(CLI::Range(0.0, 0.9));
    table_.Add("Batch", "held-out-limit", held_out_limit_, "Most documents kept; 0: no limit")
        ->check(CLI::NonNegativeNumber);
    table_.Add("Output", "examples", examples_, "Documents shown")->check(CLI::NonNegativeNumber);
    table_.Add("Output", "from", from_, "The first document shown, from 0")
        ->check(CLI::NonNegativeNumber);
    app_->add_flag("--json", json_, "Print a JSON object")->group("Output");
    app_->footer(kDataExample);
  }

  int Run() override {
    if (sequence_ > batch_tokens_) {
      throw Usage("--sequence must not be larger than --micro-batch-tokens");
    }
    tokenizer_ = LoadTokenizer(FindModel(model_));
    qft_dataset_options options = Sized<qft_dataset_options>();
    options.batch_tokens = batch_tokens_;
    options.sequence_tokens = sequence_;
    options.held_out_share = held_out_;
    options.held_out_limit = held_out_limit_;
    dataset_ = OpenDataset(data_, tokenizer_, options);
    json_ ? PrintJson() : PrintText();
    return 0;
  }

 private:
  int64_t Documents() const {
    const qft_dataset_info info = GetInfo(dataset_);
    return info.documents + info.documents_held_out;
  }

  qft_document Get(int64_t index) const {
    qft_document document = Sized<qft_document>();
    Call(qft_dataset_get_document, dataset_.get(), index, &document);
    return document;
  }

  std::vector<FileCounts> Count() const {
    std::vector<FileCounts> files(data_.files.size());
    const int64_t documents = Documents();
    for (int64_t i = 0; i < documents; ++i) {
      const qft_document document = Get(i);
      FileCounts& file = files[static_cast<size_t>(document.file)];
      ++file.documents;
      file.held_out += document.held_out;
      file.tokens += document.tokens;
      file.learnt += LearntTokens(document);
      file.cut += document.dropped > 0 ? 1 : 0;
      file.dropped += document.dropped;
    }
    return files;
  }

  // Runs of tokens that are learnt or not, as they are in the text of all: alone, one of
  // SentencePiece's would lose its first space. A character whose tokens are of two runs is broken
  // in the first.
  std::vector<Piece> Pieces(const qft_document& document) const {
    std::vector<Piece> pieces;
    std::string before;
    for (int64_t begin = 0; begin < document.tokens;) {
      int64_t end = begin + 1;
      while (end < document.tokens && document.learnt[end] == document.learnt[begin]) ++end;
      std::string text = CopyText(qft_tokenizer_decode, tokenizer_.get(), document.token_ids,
                                  static_cast<size_t>(end), int32_t{0});
      pieces.push_back({text.substr(CommonBytes(before, text)), document.learnt[begin] != 0});
      before = std::move(text);
      begin = end;
    }
    return pieces;
  }

  std::vector<std::string> Reasons(int64_t most) const {
    constexpr int64_t kKept = 100;
    std::vector<std::string> reasons;
    const int64_t count = std::min({GetInfo(dataset_).records_skipped, most, kKept});
    for (int64_t i = 0; i < count; ++i) {
      reasons.push_back(CopyText(qft_dataset_get_skipped, dataset_.get(), i));
    }
    return reasons;
  }

  int64_t ExamplesEnd() const { return std::min(Documents(), from_ + examples_); }

  // ---- for people -------------------------------------------------------------------------------

  void PrintText() const {
    const bool colour = isatty(STDOUT_FILENO) == 1;
    for (int64_t i = from_; i < ExamplesEnd(); ++i) PrintExample(Get(i), colour);
    printf("%10s %9s %12s %12s %8s %12s  %s\n", "documents", "held out", "tokens", "learnt", "cut",
           "tokens lost", "file");
    const std::vector<FileCounts> files = Count();
    for (size_t i = 0; i < files.size(); ++i) {
      const FileCounts& file = files[i];
      printf("%10lld %9lld %12lld %12lld %8lld %12lld  %s\n",
             static_cast<long long>(file.documents), static_cast<long long>(file.held_out),
             static_cast<long long>(file.tokens), static_cast<long long>(file.learnt),
             static_cast<long long>(file.cut), static_cast<long long>(file.dropped),
             data_.files[i].c_str());
    }
    const qft_dataset_info info = GetInfo(dataset_);
    printf("an epoch   %lld tokens in %lld batches of %lld, %.1f %% full\n",
           static_cast<long long>(info.tokens), static_cast<long long>(info.batches),
           static_cast<long long>(batch_tokens_), info.packing_efficiency * 100);
    if (info.records_skipped == 0) return;
    printf("skipped    %lld records that are wrong\n",
           static_cast<long long>(info.records_skipped));
    for (const std::string& reason : Reasons(kMostReasons)) {
      printf("  %s\n", Printable(reason).c_str());
    }
  }

  void PrintExample(const qft_document& document, bool colour) const {
    const std::string& file = data_.files[static_cast<size_t>(document.file)];
    printf("%s:%lld  %lld tokens, %lld learnt", ParseDataFile(file).path.c_str(),
           static_cast<long long>(document.number), static_cast<long long>(document.tokens),
           static_cast<long long>(LearntTokens(document)));
    if (document.dropped > 0) printf(", %lld cut off", static_cast<long long>(document.dropped));
    printf("%s\n", document.held_out != 0 ? ", held out" : "");
    for (const Piece& piece : Pieces(document)) {
      const std::string text = Printable(piece.text);
      if (!piece.learnt) {
        printf("%s", text.c_str());
      } else {
        printf("%s%s%s%s%s", colour ? "\033[32m" : "", kLearntBegin, text.c_str(), kLearntEnd,
               colour ? "\033[0m" : "");
      }
    }
    printf("\n\n");
  }

  // ---- for programs -----------------------------------------------------------------------------

  void PrintJson() const {
    json files = json::array();
    const std::vector<FileCounts> counts = Count();
    for (size_t i = 0; i < counts.size(); ++i) {
      const DataFileOption file = ParseDataFile(data_.files[i]);
      files.push_back({{"path", file.path},
                       {"weight", file.weight > 0 ? json(file.weight) : json()},
                       {"documents", counts[i].documents},
                       {"held_out", counts[i].held_out},
                       {"tokens", counts[i].tokens},
                       {"learnt", counts[i].learnt},
                       {"cut", counts[i].cut},
                       {"tokens_lost", counts[i].dropped}});
    }
    json examples = json::array();
    for (int64_t i = from_; i < ExamplesEnd(); ++i) examples.push_back(Example(Get(i)));
    const qft_dataset_info info = GetInfo(dataset_);
    const json result = {
        {"files", files},
        {"epoch",
         {{"tokens", info.tokens},
          {"batches", info.batches},
          {"batch_tokens", batch_tokens_},
          {"packing_efficiency", info.packing_efficiency}}},
        {"skipped",
         {{"records", info.records_skipped}, {"reasons", Reasons(info.records_skipped)}}},
        {"examples", examples}};
    printf("%s\n", Dump(result, 2).c_str());
  }

  json Example(const qft_document& document) const {
    json pieces = json::array();
    for (const Piece& piece : Pieces(document)) {
      pieces.push_back({{"text", piece.text}, {"learnt", piece.learnt}});
    }
    const auto size = document.tokens;
    return {{"file", ParseDataFile(data_.files[static_cast<size_t>(document.file)]).path},
            {"number", document.number},
            {"tokens_lost", document.dropped},
            {"held_out", document.held_out != 0},
            {"token_ids", std::vector<int32_t>(document.token_ids, document.token_ids + size)},
            {"learnt", std::vector<int>(document.learnt, document.learnt + size)},
            {"pieces", pieces}};
  }

  OptionTable table_;
  std::string model_;
  DataOptions data_;
  int64_t batch_tokens_ = 2048;
  int64_t sequence_ = 512;
  double held_out_ = 0.05;
  int64_t held_out_limit_ = 256;
  int64_t examples_ = 3;
  int64_t from_ = 0;
  bool json_ = false;
  Tokenizer tokenizer_;
  Dataset dataset_;
};

}  // namespace

std::unique_ptr<Command> MakeData(CLI::App& program) {
  return std::make_unique<Data>(program);
}

}  // namespace qft::cli
