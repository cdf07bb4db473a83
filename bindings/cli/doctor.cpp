// What this machine has of what libqft uses, and what to do about what is missing.
#include <linux/io_uring.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "bindings/cli/command.h"
#include "bindings/cli/report.h"
#include "bindings/cli/source.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

constexpr char kDoctorExample[] =
    "Example:\n"
    "  qft doctor\n\n"
    "ok: can be used. missing: cannot, and what to do. Exit code 1: even the CPU engine does not "
    "run.";

constexpr char kTinyConfig[] =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64,
        "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5})";

struct Finding {
  const char* subject;
  bool ok;
  std::string text;
};

// Opens a session on the engine and takes a step with it.
Finding CheckEngine(const char* subject, const std::string& engine) {
  try {
    const Model model =
        Make<Model>(qft_model_create_random, kTinyConfig, sizeof(kTinyConfig) - 1, uint64_t{0});
    Settings settings;
    settings.micro_batch_tokens = 32;
    settings.set = {"engine=" + engine};
    const Session session = OpenSession(model, settings);
    int32_t ids[32];
    for (int32_t t = 0; t < 32; ++t) ids[t] = t;
    qft_batch batch = Sized<qft_batch>();
    batch.tokens = 32;
    batch.token_ids = ids;
    qft_step_options options = Sized<qft_step_options>();
    options.learning_rate = 1e-3;
    qft_step_result result = Sized<qft_step_result>();
    Call(qft_session_step, session.get(), &options, &batch, int64_t{1}, &result);
    qft_device_report device = Sized<qft_device_report>();
    Call(qft_session_get_device, session.get(), &device);
    const auto free_bytes = static_cast<double>(device.total_bytes - device.used_bytes);
    std::string text = Engine(session);
    if (engine == "cuda") text += "; " + Bytes(free_bytes) + " free";
    return {subject, true, text};
  } catch (const Failure& failure) {
    return {subject, false, failure.what()};
  }
}

Finding CheckLockedMemory() {
  constexpr char kSubject[] = "locked memory";
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return {kSubject, false, strerror(errno)};
  if (limit.rlim_cur == RLIM_INFINITY) return {kSubject, true, "no limit"};
  constexpr rlim_t kEnough = rlim_t{1} << 30;
  const std::string bytes = Bytes(static_cast<double>(limit.rlim_cur));
  if (limit.rlim_cur >= kEnough) return {kSubject, true, bytes + " may be locked"};
  return {kSubject, false,
          "only " + bytes +
              " may be locked, which states kept off the device will need; raise it with "
              "`ulimit -l unlimited`, or memlock in /etc/security/limits.conf"};
}

Finding CheckIoUring() {
  constexpr char kSubject[] = "io_uring";
  io_uring_params parameters{};
  const long file = syscall(SYS_io_uring_setup, 1, &parameters);
  if (file >= 0) {
    close(static_cast<int>(file));
    return {kSubject, true, "available"};
  }
  const char* advice = errno == EPERM
                           ? "not allowed here; see kernel.io_uring_disabled, or the container's "
                             "seccomp profile"
                           : "the kernel has none; Linux 5.1 or later is needed";
  return {kSubject, false, std::string(advice) + "; states on disk will need it"};
}

class Doctor : public Command {
 public:
  explicit Doctor(CLI::App& program)
      : Command(program, "doctor", "Check what this machine has of what libqft uses") {
    app_->footer(kDoctorExample);
  }

  int Run() override {
    const Finding cpu = CheckEngine("cpu engine", "cpu");
    for (const Finding& finding :
         {cpu, CheckEngine("cuda engine", "cuda"), CheckLockedMemory(), CheckIoUring()}) {
      printf("%-8s %-14s %s\n", finding.ok ? "ok" : "missing", finding.subject,
             finding.text.c_str());
    }
    return cpu.ok ? 0 : 1;
  }
};

}  // namespace

std::unique_ptr<Command> MakeDoctor(CLI::App& program) {
  return std::make_unique<Doctor>(program);
}

}  // namespace qft::cli
