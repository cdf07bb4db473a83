// Every file operation and every allocation of a call, those of the engine's memory by themselves
// too, fails once, and from there on for ever: the call says what happened or succeeds, nothing
// leaks, the session can be used or says that it can't, and the last checkpoint loads.
#include <fcntl.h>
#include <sys/stat.h>

#include <iostream>
#include <limits>

#include "tests/abi/faults/injection.h"
#include "tests/abi/faults/world.h"

namespace qft {
namespace {

namespace fs = std::filesystem;

// Of each kind, once and for ever; all with QFT_EVERY_FAILURE set.
constexpr int64_t kMostTried = 200;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr int64_t kLongMs = 60000;

enum class Fails { kFile, kNew, kEngine };

const char* NameOf(Fails fails) {
  switch (fails) {
    case Fails::kFile:
      return "file operations";
    case Fails::kNew:
      return "allocations";
    case Fails::kEngine:
      return "allocations of engine memory";
  }
  return "";
}

injection::Plan PlanOf(Fails fails, int64_t n, bool for_ever) {
  injection::Plan plan;
  plan.fail_file = fails == Fails::kFile ? n : 0;
  plan.fail_new = fails == Fails::kNew ? n : 0;
  plan.fail_engine = fails == Fails::kEngine ? n : 0;
  plan.for_ever = for_ever;
  plan.error = n % 2 == 0 ? ENOSPC : EIO;
  return plan;
}

class NthFailure : public World {
 protected:
  struct Phase {
    std::function<void()> prepare;
    std::function<qft_status(qft_error**)> call;
    // After the failure, with nothing failing any more.
    std::function<void(const Outcome&)> check;
    // Frees what prepare and call made.
    std::function<void()> finish;
  };

  Outcome Run(const Phase& phase, const injection::Plan& plan) {
    phase.prepare();
    qft_error* error = nullptr;
    injection::Start(plan);
    const qft_status status = phase.call(&error);
    injection::Stop();
    return OutcomeOf(status, error);
  }

  static int64_t OpenDescriptors() {
    return std::distance(fs::directory_iterator("/proc/self/fd"), {});
  }

  void RunAndCheck(const Phase& phase, Fails fails, const injection::Plan& plan) {
    const Outcome outcome = Run(phase, plan);
    CheckStatus(outcome, fails);
    phase.check(outcome);
    phase.finish();
  }

  void ForEach(const Phase& phase, Fails fails, int64_t count) {
    int64_t failures = 0;
    const bool all = std::getenv("QFT_EVERY_FAILURE") != nullptr;
    const int64_t stride = all ? 1 : std::max<int64_t>(1, count / most_tried_);
    for (const bool for_ever : {false, true}) {
      for (int64_t n = 1; n <= count; n += stride) {
        SCOPED_TRACE(testing::Message() << n << " of " << count << " " << NameOf(fails)
                                        << (for_ever ? ", and all after it" : ""));
        const int64_t live = injection::LiveAllocations();
        const auto descriptors = OpenDescriptors();
        RunAndCheck(phase, fails, PlanOf(fails, n, for_ever));
        failures += injection::Failed() ? 1 : 0;
        EXPECT_EQ(OpenDescriptors(), descriptors);
        EXPECT_LE(injection::LiveAllocations(), live) << "leaked";
        if (HasFailure()) return;
      }
    }
    std::cout << NameOf(fails) << ": " << failures << " failures\n";
  }

  void CheckStatus(const Outcome& outcome, Fails fails) {
    const qft_status status = outcome.status;
    if (status == QFT_OK) return;
    EXPECT_NE(outcome.message, "");
    EXPECT_NE(status, QFT_ERROR_INTERNAL) << outcome.message;
    if (fails == Fails::kFile) {
      EXPECT_TRUE(status / 1000 == QFT_ERROR_IO / 1000 || status == QFT_ERROR_NOT_FOUND)
          << status << ": " << outcome.message;
    }
    if (fails == Fails::kEngine) {  // an op that had none of its own says so in its message
      EXPECT_TRUE(status == QFT_ERROR_OUT_OF_MEMORY || status == QFT_ERROR_EXECUTION) << status;
      EXPECT_NE(outcome.message.find("memory"), std::string::npos) << outcome.message;
    }
  }

  // How many of the kind a run has in which none fails.
  int64_t Count(const Phase& phase, Fails fails) {
    // Twice: the first call of a kind fills what is kept for later ones.
    for (int i = 0; i < 2; ++i) {
      const Outcome outcome = Run(phase, PlanOf(fails, kNever, false));
      EXPECT_EQ(outcome.status, QFT_OK) << outcome.message;
      phase.check(outcome);
      phase.finish();
    }
    return fails == Fails::kFile  ? injection::FileOperations()
           : fails == Fails::kNew ? injection::Allocations()
                                  : injection::EngineAllocations();
  }

  void EveryFailure(const Phase& phase) {
    for (const Fails fails : {Fails::kFile, Fails::kNew, Fails::kEngine}) {
      const int64_t count = Count(phase, fails);
      std::cout << count << " " << NameOf(fails) << "\n";
      ForEach(phase, fails, count);
    }
  }

  // Saves step 1 of `session`, which is at step 2 then, and keeps a copy of the folder.
  void SaveStepOne(qft_session* session) {
    StepTo(session, 1);
    Must([&](qft_error** error) { return Save(session, 1, error); });
    StepTo(session, 2);
    fs::copy(folder_, root_ + "/saved", fs::copy_options::recursive);
  }
  void PutBackStepOne() {
    fs::remove_all(folder_);
    fs::copy(root_ + "/saved", folder_, fs::copy_options::recursive);
  }
  qft_status SaveBegin(qft_session* session, qft_event** event, qft_error** error) {
    return qft_session_save_begin(session, folder_.data(), folder_.size(), "cursor", 6, 1, event,
                                  error);
  }

  int64_t most_tried_ = kMostTried;

  void EveryFailureOfAStep() {
    HashAt(2);
    qft_session* session = nullptr;
    EveryFailure({[&] {
                    session = Open();
                    StepTo(session, 1);
                  },
                  [&](qft_error** error) { return Step(session, 1, error); },
                  [&](const Outcome& outcome) {
                    if (HashOf(session).empty()) {
                      EXPECT_NE(outcome.status, QFT_OK);
                      return;
                    }
                    EXPECT_EQ(StepOf(session), outcome.status == QFT_OK ? 2 : 1);
                    StepTo(session, 2);
                    EXPECT_EQ(HashOf(session), HashAt(2));
                  },
                  [&] { qft_session_destroy(session); }});
  }
};

TEST_F(NthFailure, ModelLoad) {
  qft_session* session = Open();
  const std::string folder = root_ + "/exported";
  Must([&](qft_error** error) {
    return qft_export(session, model_, nullptr, folder.data(), folder.size(), error);
  });
  qft_session_destroy(session);
  qft_model* model = nullptr;
  const auto load = [&](qft_error** error) {
    return qft_model_load(folder.data(), folder.size(), &model, error);
  };
  EveryFailure({[] {}, load,
                [&](const Outcome& outcome) {
                  EXPECT_EQ(outcome.status == QFT_OK, model != nullptr);
                  qft_model_destroy(model);
                  model = nullptr;
                  Must(load);
                },
                [&] {
                  qft_model_destroy(model);
                  model = nullptr;
                }});
}

TEST_F(NthFailure, SessionOpen) {
  const std::string hash = HashAt(0);
  qft_session* session = nullptr;
  EveryFailure({[] {},
                [&](qft_error** error) {
                  return qft_session_open(model_, config_, nullptr, &session, error);
                },
                [&](const Outcome& outcome) {
                  EXPECT_EQ(outcome.status == QFT_OK, session != nullptr);
                  if (session == nullptr) session = Open();
                  EXPECT_EQ(HashOf(session), hash);
                },
                [&] {
                  qft_session_destroy(session);
                  session = nullptr;
                }});
}

// Of a limit too small, so that what would fit is looked for too.
TEST_F(NthFailure, Plan) {
  qft_config* config = nullptr;
  Must([&](qft_error** error) { return qft_config_create(&config, error); });
  const auto set = [&](const std::string& key, const std::string& value) {
    Must([&](qft_error** error) {
      return qft_config_set_text(config, key.data(), key.size(), value.data(), value.size(), error);
    });
  };
  set("engine", "cuda");
  set("memory_limit", "910000000");
  set("micro_batch_tokens", "65536");
  const std::string device = "h100-80gb";
  qft_plan_options options{};
  options.struct_size = sizeof(options);
  options.device = device.data();
  options.device_length = device.size();
  qft_plan* plan = nullptr;
  EveryFailure(
      {[] {},
       [&](qft_error** error) { return qft_plan_create(model_, config, &options, &plan, error); },
       [&](const Outcome& outcome) {
         EXPECT_EQ(outcome.status == QFT_OK, plan != nullptr);
         if (plan == nullptr) return;
         const char* json = nullptr;
         size_t length = 0;
         Must([&](qft_error** error) { return qft_plan_get_json(plan, &json, &length, error); });
         EXPECT_NE(std::string(json).find(R"("would_fit":[{)"), std::string::npos) << json;
       },
       [&] {
         qft_plan_destroy(plan);
         plan = nullptr;
       }});
  qft_config_destroy(config);
}

// With memory that is mapped, and with a snapshot's.
TEST_F(NthFailure, LargeSessionOpen) {
  Set("snapshot", "host");
  Set("micro_batch_tokens", "4096");
  qft_session* session = nullptr;
  const Phase phase = {[] {},
                       [&](qft_error** error) {
                         return qft_session_open(model_, config_, nullptr, &session, error);
                       },
                       [&](const Outcome& outcome) {
                         EXPECT_EQ(outcome.status == QFT_OK, session != nullptr);
                         EXPECT_EQ(outcome.status == QFT_OK, !injection::Failed());
                       },
                       [&] {
                         qft_session_destroy(session);
                         session = nullptr;
                       }};
  const int64_t count = Count(phase, Fails::kEngine);
  EXPECT_GE(count, 2);
  ForEach(phase, Fails::kEngine, count);
}

TEST_F(NthFailure, Decoder) {
  qft_session* session = Open();
  qft_decoder* decoder = nullptr;
  const int32_t tokens[] = {3, 1, 4};
  EveryFailure({[] {},
                [&](qft_error** error) {
                  const qft_status status = qft_decoder_open(session, 16, &decoder, error);
                  EXPECT_EQ(status == QFT_OK, decoder != nullptr);
                  if (status != QFT_OK) return status;
                  return qft_decoder_feed(decoder, tokens, 3, nullptr, 0, error);
                },
                [&](const Outcome& outcome) {
                  const std::string hash = HashOf(session);
                  EXPECT_TRUE(hash == HashAt(0) || (hash.empty() && outcome.status != QFT_OK));
                },
                [&] {
                  qft_decoder_destroy(decoder);
                  decoder = nullptr;
                  if (!HashOf(session).empty()) return;
                  qft_session_destroy(session);
                  session = Open();
                }});
  qft_session_destroy(session);
}

TEST_F(NthFailure, Step) {
  EveryFailureOfAStep();
}

// Each call ends with the states' hash: what it writes behind it is at home then, or has failed.
class NthFailureElsewhere : public NthFailure, public testing::WithParamInterface<std::string> {
 protected:
  NthFailureElsewhere() {
    UseGradients("stack");
    most_tried_ = 25;
  }

  // What is expected comes from sessions with momentum in the engine's memory.
  void UseGradients(const std::string& gradients) {
    Set("gradients", gradients);
    Set("momentum", "device");
    hashes_.clear();
    HashAt(3);
    if (GetParam() == "nvme") return PutMomentumOnNvme("threads");
    Set("momentum", "host");
    Set("boundaries", "host");
    Set("staging", "0");
  }

  qft_status Hash(qft_error** error) {
    char hash[33];
    return qft_session_state_hash(session_, hash, sizeof(hash), error);
  }
  // The states are those of `before` or `after`, the latter if the call succeeded, or the session
  // is poisoned; what is not goes on to step 3.
  void CheckStates(const Outcome& outcome, int64_t before, int64_t after) {
    // Where the call ended before its own hash this one may notice what was written behind a step.
    const Outcome late = Call([&](qft_error** error) { return Hash(error); });
    EXPECT_TRUE(late.status == QFT_OK || outcome.status != QFT_OK) << late.message;
    const std::string hash = HashOf(session_);
    EXPECT_EQ(late.status != QFT_OK, hash.empty());
    if (hash.empty()) {
      EXPECT_NE(outcome.status, QFT_OK);
      return;
    }
    const int64_t step = StepOf(session_);
    EXPECT_TRUE(step == after || (step == before && outcome.status != QFT_OK)) << step;
    EXPECT_EQ(hash, HashAt(step));
    StepTo(session_, 3);
    EXPECT_EQ(HashOf(session_), HashAt(3));
  }
  std::function<void()> OpenAt(int64_t step) {
    return [this, step] {
      session_ = Open();
      StepTo(session_, step);
      EXPECT_EQ(HashOf(session_), HashAt(step));
    };
  }
  std::function<void()> Destroy() {
    return [this] {
      qft_session_destroy(session_);
      session_ = nullptr;
    };
  }

  qft_session* session_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Momentum, NthFailureElsewhere, testing::Values("nvme", "host"),
                         [](const auto& info) { return info.param; });

TEST_P(NthFailureElsewhere, SessionOpen) {
  EveryFailure({[] {},
                [&](qft_error** error) {
                  return qft_session_open(model_, config_, nullptr, &session_, error);
                },
                [&](const Outcome& outcome) {
                  EXPECT_EQ(outcome.status == QFT_OK, session_ != nullptr);
                  if (session_ == nullptr) session_ = Open();
                  EXPECT_EQ(HashOf(session_), HashAt(0));
                },
                Destroy()});
}

TEST_P(NthFailureElsewhere, Step) {
  for (const char* gradients : {"stack", "fused"}) {
    UseGradients(gradients);
    EveryFailure({OpenAt(1),
                  [&](qft_error** error) {
                    const qft_status status = Step(session_, 1, error);
                    return status == QFT_OK ? Hash(error) : status;
                  },
                  [&](const Outcome& outcome) { CheckStates(outcome, 1, 2); }, Destroy()});
  }
}

TEST_P(NthFailureElsewhere, Save) {
  OpenAt(0)();
  SaveStepOne(session_);
  Destroy()();
  EveryFailure({[&] {
                  PutBackStepOne();
                  OpenAt(2)();
                },
                [&](qft_error** error) { return Save(session_, 1, error); },
                [&](const Outcome& outcome) {
                  const int64_t newest = Newest();
                  EXPECT_TRUE(newest == 2 || (newest == 1 && outcome.status != QFT_OK)) << newest;
                  CheckStates(outcome, 2, 2);
                },
                Destroy()});
}

TEST_P(NthFailureElsewhere, Restore) {
  OpenAt(2)();
  Must([&](qft_error** error) { return Save(session_, 0, error); });
  Destroy()();
  qft_checkpoint* checkpoint = nullptr;
  Must([&](qft_error** error) { return OpenCheckpoint(&checkpoint, error); });
  EveryFailure({OpenAt(0),
                [&](qft_error** error) { return qft_session_restore(session_, checkpoint, error); },
                [&](const Outcome& outcome) { CheckStates(outcome, 0, 2); }, Destroy()});
  qft_checkpoint_destroy(checkpoint);
}

TEST_P(NthFailureElsewhere, TensorWrite) {
  std::vector<float> values;
  const qft_tensor_view view = ViewOfEmbedding(values);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 37) - 18;
  const auto write = [&](qft_error** error) {
    return qft_tensor_write(session_, 0, QFT_TENSOR_MOMENTUM, &view, nullptr, error);
  };
  OpenAt(2)();
  Must(write);
  const std::string written = HashOf(session_);
  Destroy()();
  EXPECT_NE(written, HashAt(2));
  EveryFailure({OpenAt(2), write,
                [&](const Outcome& outcome) {
                  const std::string hash = HashOf(session_);
                  const bool before = hash == HashAt(2) || hash.empty();
                  EXPECT_TRUE(hash == written || (before && outcome.status != QFT_OK));
                },
                Destroy()});
}

TEST_F(NthFailure, FirstStep) {
  HashAt(1);
  qft_session* session = nullptr;
  EveryFailure({[&] { session = Open(); },
                [&](qft_error** error) { return Step(session, 0, error); },
                [&](const Outcome& outcome) {
                  if (HashOf(session).empty()) {
                    EXPECT_NE(outcome.status, QFT_OK);
                    return;
                  }
                  EXPECT_EQ(StepOf(session), outcome.status == QFT_OK ? 1 : 0);
                  StepTo(session, 1);
                  EXPECT_EQ(HashOf(session), HashAt(1));
                },
                [&] { qft_session_destroy(session); }});
}

TEST_F(NthFailure, Save) {
  qft_session* session = Open();
  SaveStepOne(session);
  EveryFailure({[&] { PutBackStepOne(); },
                [&](qft_error** error) { return Save(session, 1, error); },
                [&](const Outcome& outcome) {
                  const int64_t step = Newest();
                  EXPECT_TRUE(step == 2 || (step == 1 && outcome.status != QFT_OK)) << step;
                  EXPECT_EQ(HashOf(session), HashAt(2));
                  Must([&](qft_error** error) { return Save(session, 1, error); });
                  EXPECT_EQ(Newest(), 2);
                  EXPECT_FALSE(fs::exists(folder_ + "/step_1"));
                  EXPECT_FALSE(fs::exists(folder_ + "/step_2.tmp"));
                },
                [] {}});
  qft_session_destroy(session);
}

// Beside a step, in host memory of the engine.
TEST_F(NthFailure, SaveBesideTraining) {
  Set("snapshot", "host");
  HashAt(3);
  qft_session* session = Open();
  SaveStepOne(session);
  qft_session_destroy(session);
  qft_event* event = nullptr;
  EveryFailure({[&] {
                  PutBackStepOne();
                  session = Open();
                  StepTo(session, 2);
                },
                [&](qft_error** error) {
                  qft_status status = SaveBegin(session, &event, error);
                  EXPECT_EQ(status == QFT_OK, event != nullptr);
                  if (status == QFT_OK) status = Step(session, 2, error);
                  if (status == QFT_OK) status = qft_event_wait(event, kLongMs, error);
                  return status;
                },
                [&](const Outcome& outcome) {
                  if (event != nullptr) {
                    const Outcome saved = Call(
                        [&](qft_error** error) { return qft_event_wait(event, kLongMs, error); });
                    EXPECT_NE(saved.status, QFT_ERROR_TIMEOUT);
                  }
                  EXPECT_TRUE(Newest() == 2 || (Newest() == 1 && outcome.status != QFT_OK));
                  const std::string hash = HashOf(session);
                  if (hash.empty()) {
                    EXPECT_NE(outcome.status, QFT_OK);
                    return;
                  }
                  EXPECT_EQ(hash, HashAt(StepOf(session)));
                  StepTo(session, 3);
                  EXPECT_EQ(HashOf(session), HashAt(3));
                  Must([&](qft_error** error) { return Save(session, 1, error); });
                  EXPECT_EQ(Newest(), 3);
                },
                [&] {
                  qft_event_destroy(event);
                  event = nullptr;
                  qft_session_destroy(session);
                }});
}

// The queue of copies takes memory while the copies before it are being made.
TEST_F(NthFailure, SnapshotCopies) {
  Set("snapshot", "host");
  qft_session* session = Open();
  SaveStepOne(session);
  qft_event* event = nullptr;
  const Phase phase = {
      [&] { PutBackStepOne(); },
      [&](qft_error** error) {
        const qft_status status = SaveBegin(session, &event, error);
        injection::Stop();  // what the thread that writes allocates is not meant
        return status;
      },
      [&](const Outcome& outcome) {
        EXPECT_EQ(outcome.status, injection::Failed() ? QFT_ERROR_OUT_OF_MEMORY : QFT_OK);
        EXPECT_EQ(outcome.status == QFT_OK, event != nullptr);
        if (event == nullptr) {
          EXPECT_EQ(Newest(), 1);
          Must([&](qft_error** error) { return SaveBegin(session, &event, error); });
        }
        Must([&](qft_error** error) { return qft_event_wait(event, kLongMs, error); });
        EXPECT_EQ(Newest(), 2);
        EXPECT_EQ(HashOf(session), HashAt(2));
      },
      [&] {
        qft_event_destroy(event);
        event = nullptr;
      }};
  injection::Plan plan;
  plan.inside = "CopyThread";
  plan.fail_new = kNever;
  phase.check(Run(phase, plan));
  phase.finish();
  const int64_t count = injection::Allocations();
  ASSERT_GE(count, 2);
  for (const bool for_ever : {false, true}) {
    for (int64_t n = 1; n <= count && !HasFailure(); ++n) {
      SCOPED_TRACE(testing::Message() << "allocation " << n << " of " << count);
      plan.fail_new = n;
      plan.for_ever = for_ever;
      const Outcome outcome = Run(phase, plan);
      EXPECT_TRUE(injection::Failed());
      phase.check(outcome);
      phase.finish();
    }
  }
  qft_session_destroy(session);
}

TEST_F(NthFailure, PrepareAndDrop) {
  qft_session* session = Open();
  StepTo(session, 1);
  Must([&](qft_error** error) { return Save(session, 1, error); });
  StepTo(session, 2);
  EveryFailure({[] {},
                [&](qft_error** error) {
                  qft_save* save = nullptr;
                  const qft_status status = qft_save_prepare(
                      session, folder_.data(), folder_.size(), nullptr, 0, &save, error);
                  EXPECT_EQ(status == QFT_OK, save != nullptr);
                  qft_save_destroy(save);
                  return status;
                },
                [&](const Outcome&) {
                  EXPECT_EQ(Newest(), 1);
                  EXPECT_EQ(HashOf(session), HashAt(2));
                },
                [] {}});
  qft_session_destroy(session);
}

TEST_F(NthFailure, CheckpointOpen) {
  qft_session* session = Open();
  for (const int64_t step : {1, 2}) {
    StepTo(session, step);
    Must([&](qft_error** error) { return Save(session, 0, error); });
  }
  qft_checkpoint* checkpoint = nullptr;
  EveryFailure({[] {}, [&](qft_error** error) { return OpenCheckpoint(&checkpoint, error); },
                [&](const Outcome& outcome) {
                  EXPECT_EQ(outcome.status == QFT_OK, checkpoint != nullptr);
                  EXPECT_EQ(Newest(), 2);
                },
                [&] {
                  qft_checkpoint_destroy(checkpoint);
                  checkpoint = nullptr;
                }});
  qft_session_destroy(session);
}

TEST_F(NthFailure, Restore) {
  qft_session* session = Open();
  StepTo(session, 2);
  Must([&](qft_error** error) { return Save(session, 0, error); });
  qft_session_destroy(session);
  qft_checkpoint* checkpoint = nullptr;
  Must([&](qft_error** error) { return OpenCheckpoint(&checkpoint, error); });
  EveryFailure({[&] { session = Open(); },
                [&](qft_error** error) { return qft_session_restore(session, checkpoint, error); },
                [&](const Outcome& outcome) {
                  const std::string hash = HashOf(session);
                  if (hash.empty()) {
                    EXPECT_NE(outcome.status, QFT_OK);
                    return;
                  }
                  const int64_t step = StepOf(session);
                  EXPECT_EQ(step, outcome.status == QFT_OK ? 2 : 0);
                  EXPECT_EQ(hash, HashAt(step));
                  StepTo(session, 3);
                  EXPECT_EQ(HashOf(session), HashAt(3));
                },
                [&] { qft_session_destroy(session); }});
  qft_checkpoint_destroy(checkpoint);
}

TEST_F(NthFailure, Export) {
  qft_session* session = Open();
  const std::string folder = root_ + "/exported";
  const auto run = [&](qft_error** error) {
    return qft_export(session, model_, nullptr, folder.data(), folder.size(), error);
  };
  EveryFailure({[&] {
                  fs::remove_all(folder);
                  fs::remove_all(folder + ".partial");
                },
                run,
                [&](const Outcome& outcome) {
                  EXPECT_TRUE(outcome.status != QFT_OK || fs::exists(folder));
                  if (!fs::exists(folder)) {
                    fs::remove_all(folder + ".partial");
                    Must(run);
                  }
                  qft_model* model = nullptr;
                  Must([&](qft_error** error) {
                    return qft_model_load(folder.data(), folder.size(), &model, error);
                  });
                  qft_model_destroy(model);
                  EXPECT_EQ(HashOf(session), HashAt(0));
                },
                [] {}});
  qft_session_destroy(session);
}

}  // namespace
}  // namespace qft
