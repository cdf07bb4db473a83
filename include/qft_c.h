/* libqft: full-parameter fine-tuning of LLaMA-family models with every training state in INT8.
 *
 * The stable C interface, model door. C99, no other header needed.
 *
 * Conventions, for every function here unless it says otherwise
 *   Errors     A fallible function returns qft_status (QFT_OK is 0) and takes a nullable
 *              `qft_error** error` last. On failure, and if error is not NULL, *error becomes a new
 *              error object that the caller destroys. On success *error is left as it was. Out
 *              parameters are untouched on failure. Any function may return QFT_ERROR_STALE,
 *              QFT_ERROR_FORKED, QFT_ERROR_INVALID_ARGUMENT (a NULL that is not allowed),
 *              QFT_ERROR_OUT_OF_MEMORY or QFT_ERROR_INTERNAL.
 *   Handles    Tokens that are never reused and are looked up before they are followed: using one
 *              after destroy returns QFT_ERROR_STALE, a second destroy does nothing. In a forked
 *              child inherited handles return QFT_ERROR_FORKED and destroy does nothing.
 *   Ownership  create, open and load give to the caller, who calls destroy; get borrows. Inputs are
 *              borrowed for the call. destroy takes NULL, may run on any thread, returns nothing.
 *   Threads    const T* may be used by several threads at once, T* by one: a concurrent misuse
 *              returns QFT_ERROR_BUSY.
 *   Strings    In: pointer and length, UTF-8, no terminator needed. Out: either borrowed and
 *              NUL-terminated, or copied into (buffer, capacity) with the whole length without
 *              terminator in *needed; what does not fit is cut and still terminated.
 *   Structs    Open structs start with struct_size, which the caller sets to sizeof. A smaller one
 *              is extended by zeros; a larger one is accepted if the unknown tail is zero. Zero
 *              means default in every field added later.
 *   Printing   The library prints nothing and never ends the process.
 */
#ifndef QFT_C_H
#define QFT_C_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define QFT_API
#else
#define QFT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- version ---------------------------------------------------------------------------------- */

/* major * 1000000 + minor * 1000 + patch. */
#define QFT_ABI_VERSION 1000

/* The version of the library that is loaded.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API uint32_t qft_abi_version(void);

/* "0.1.0". Static string.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API const char* qft_version_string(void);

/* How the library was built: a JSON object with version, compiler, engines. Static string.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API const char* qft_build_info(void);

/* ---- status and errors ------------------------------------------------------------------------ */

typedef int32_t qft_status;

#define QFT_OK 0
#define QFT_ERROR_INVALID_ARGUMENT 1001
#define QFT_ERROR_UNKNOWN_KEY 1002
#define QFT_ERROR_OUT_OF_RANGE 1003
#define QFT_ERROR_SHAPE 1004
#define QFT_ERROR_BAD_DATA 1005
#define QFT_ERROR_NOT_FOUND 1006
#define QFT_ERROR_STRUCT_SIZE 1007
#define QFT_ERROR_UNSUPPORTED 2001
#define QFT_ERROR_INTERNAL 3001
#define QFT_ERROR_OUT_OF_MEMORY 3002
#define QFT_ERROR_EXECUTION 4001
#define QFT_ERROR_NON_FINITE 4002
#define QFT_ERROR_CANCELLED 4003
#define QFT_ERROR_TIMEOUT 4004
#define QFT_ERROR_COMMUNICATION 5001
#define QFT_ERROR_IO 6001
#define QFT_ERROR_CORRUPT 6002
#define QFT_ERROR_NO_SPACE 6003
#define QFT_ERROR_FILE_NOT_FOUND 6004
#define QFT_ERROR_STATE 7001
#define QFT_ERROR_BUSY 7002
#define QFT_ERROR_STALE 7003
#define QFT_ERROR_FORKED 7004
#define QFT_ERROR_REENTRANT 7005
#define QFT_ERROR_POISONED 7006

typedef struct qft_error qft_error;

/* "QFT_ERROR_SHAPE" for 1004; "QFT_ERROR_UNKNOWN" for a code this version does not know. Static.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API const char* qft_status_name(qft_status status);

/* Makes an error object, for callbacks and for libraries built on this one.
 * code [in] any QFT_ERROR_*; message [in] borrowed; native_code [in] errno or 0; error [out] not NULL.
 * Returns code. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_error_create(qft_status code, const char* message, size_t message_length,
                                    int32_t native_code, qft_error** error);
/* The QFT_ERROR_* code; QFT_ERROR_STALE for a handle that is not an error.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_error_code(const qft_error* error);
/* "argument", "unsupported", "internal", "execution", "communication", "io" or "state". Static.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API const char* qft_error_category(const qft_error* error);
/* One line of text, borrowed until the error is destroyed; "" for a stale handle.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API const char* qft_error_message(const qft_error* error);
/* errno or the code of the underlying library, 0 where there is none.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API int32_t qft_error_native_code(const qft_error* error);
/* The rank on which it happened; 0 in a session of one rank.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API int32_t qft_error_rank(const qft_error* error);
/* Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_error_destroy(qft_error* error);

/* Compares QFT_ABI_VERSION of the header a caller was built with to the loaded library. The error
 * names both versions and the path of the library. While the major version is 0 the minor versions
 * must be equal.
 * Errors: UNSUPPORTED. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_check_abi(uint32_t header_version, qft_error** error);

/* ---- configuration ---------------------------------------------------------------------------- */

/* Cold settings by key. qft_config_describe lists every key. */
typedef struct qft_config qft_config;

/* config [out]. Every key has its default. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_config_create(qft_config** config, qft_error** error);
/* Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_config_destroy(qft_config* config);
/* Every key as a JSON array of {key, type, default, range, meaning}. Static string.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API const char* qft_config_describe(void);
/* Errors: UNKNOWN_KEY, INVALID_ARGUMENT (the key has another type), OUT_OF_RANGE.
 * Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_config_set_string(qft_config* config, const char* key, size_t key_length,
                                         const char* value, size_t value_length, qft_error** error);
/* As qft_config_set_string. Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_config_set_int(qft_config* config, const char* key, size_t key_length,
                                      int64_t value, qft_error** error);
/* As qft_config_set_string. Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_config_set_float(qft_config* config, const char* key, size_t key_length,
                                        double value, qft_error** error);
/* Parses `value` by the key's type ("cpu", "12", "0.9"). As qft_config_set_string.
 * Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_config_set_text(qft_config* config, const char* key, size_t key_length,
                                       const char* value, size_t value_length, qft_error** error);
/* Sets the tensors whose name matches `pattern` (* any text, ? one character) apart. Later groups
 * win over earlier ones. learning_rate_factor >= 0 multiplies the step's learning rate; weight_decay
 * < 0 means the configuration's; frozen != 0: no gradient, no momentum, never changed.
 * Errors: INVALID_ARGUMENT (empty pattern), OUT_OF_RANGE. At session open a pattern that matches no
 * tensor is NOT_FOUND. Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_config_add_group(qft_config* config, const char* pattern,
                                        size_t pattern_length, double learning_rate_factor,
                                        double weight_decay, int32_t frozen, qft_error** error);
/* The effective configuration, groups included, as a JSON object copied into buffer.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_config_to_json(const qft_config* config, char* buffer, size_t capacity,
                                      size_t* needed, qft_error** error);

/* ---- model ------------------------------------------------------------------------------------ */

/* The tensor table of a model and where its initial values come from. Holds no weights in memory. */
typedef struct qft_model qft_model;

#define QFT_DTYPE_F32 0
#define QFT_DTYPE_BF16 1
#define QFT_DTYPE_F16 2
#define QFT_DTYPE_I8 3
#define QFT_DTYPE_I32 4

typedef struct qft_tensor_info {
  uint64_t struct_size;
  const char* name; /* borrowed from the model, NUL-terminated */
  int64_t rows;     /* 1 for vectors */
  int64_t cols;
  int32_t dimensions; /* 1 or 2 */
  int32_t quantised;  /* 1: INT8 codes with a grid per row; 0: fp32 */
} qft_tensor_info;

/* Opens a Hugging Face folder (config.json, safetensors) or a GGUF file and checks it whole: family,
 * names, shapes. Reads no weights yet.
 * path [in] UTF-8. model [out].
 * Errors: FILE_NOT_FOUND, BAD_DATA, CORRUPT, UNSUPPORTED (names what), SHAPE, IO.
 * Thread: any. Blocks: on file reads. Since: 0.1. */
QFT_API qft_status qft_model_load(const char* path, size_t path_length, qft_model** model,
                                  qft_error** error);
/* A model with random weights of the shape that `config_json`, a Hugging Face config.json, tells:
 * matrices normal with deviation 0.02, norms 1, biases 0. The same seed gives the same weights.
 * Errors: BAD_DATA, UNSUPPORTED. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_model_create_random(const char* config_json, size_t config_length,
                                           uint64_t seed, qft_model** model, qft_error** error);
/* Sessions opened from it stay valid. Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_model_destroy(qft_model* model);
/* count [out]: tensors in the table, in the order of the forward pass; a tied head is not listed.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_model_get_tensor_count(const qft_model* model, int64_t* count,
                                              qft_error** error);
/* index in [0, count); info [in, out] with struct_size set.
 * Errors: OUT_OF_RANGE, STRUCT_SIZE. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_model_get_tensor_info(const qft_model* model, int64_t index,
                                             qft_tensor_info* info, qft_error** error);
/* index [out] of the tensor of that name.
 * Errors: NOT_FOUND. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_model_find_tensor(const qft_model* model, const char* name,
                                         size_t name_length, int64_t* index, qft_error** error);
/* The model's configuration as a Hugging Face config.json, copied into buffer.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_model_config_json(const qft_model* model, char* buffer, size_t capacity,
                                         size_t* needed, qft_error** error);

/* ---- session ---------------------------------------------------------------------------------- */

/* One training run over a model: states, optimizer, seed. Owns no data. */
typedef struct qft_session qft_session;

/* A micro-batch: documents packed one after the other into one row of tokens, which do not see each
 * other. All arrays are host memory, borrowed for the call. */
typedef struct qft_batch {
  uint64_t struct_size;
  int64_t tokens;            /* 1 .. micro_batch_tokens of the configuration */
  const int32_t* token_ids;  /* [tokens], each in [0, vocabulary) */
  const int32_t* targets;    /* [tokens] the token to predict, -1: none. NULL: the next token of the
                                  same document */
  const float* loss_weights; /* [tokens] >= 0; NULL: 1. Without target it counts as 0 */
  const int32_t* document_ids; /* [tokens] equal in a document, documents contiguous; NULL: one */
} qft_batch;

typedef struct qft_step_options {
  uint64_t struct_size;
  double learning_rate;        /* >= 0 */
  double loss_normalizer;      /* gradients are divided by it; 0: the sum of the loss weights */
  const double* group_factors; /* [group_count] multiply the groups' learning rates; NULL: 1 */
  int64_t group_count;         /* 0, or the number of qft_config_add_group calls */
} qft_step_options;

/* With gradients = stack and momentum outside device memory a step's updates run beside the forward
 * pass of the next one (or before whatever else looks at states): codes_changed, codes_saturated,
 * rows_grown, updates_lost and rounding_walk then tell of the updates since the result before. */
typedef struct qft_step_result {
  uint64_t struct_size;
  int64_t step;         /* updates done so far, this one included */
  int64_t tokens;       /* tokens of this step */
  double loss;          /* weighted mean of -log p(target), nats */
  double loss_weight;   /* sum of the loss weights */
  double gradient_norm; /* of the gradient that is applied, before clipping */
  double clip_factor;   /* what the gradient was multiplied by */
  double learning_rate;
  int64_t codes_changed;   /* weight codes changed by the update */
  int64_t codes_total;     /* weight codes that train */
  int64_t codes_saturated; /* weight codes at +-127 */
  int64_t rows_grown;      /* rows whose grid grew */
  int32_t skipped;         /* 1: the gradient was not finite and nothing was updated */
  int32_t reserved;
  double seconds;       /* wall time from begin_step to the end of end_step */
  int64_t updates_lost; /* weights whose update rounding = nearest made 0 */
  /* How far rounding has walked the weights since they were loaded: root of the mean squared
   * difference between rounded and unrounded updates, in grid steps; without the re-rounding of
   * rows whose grid grows. */
  double rounding_walk;
} qft_step_result;

typedef struct qft_eval_result {
  uint64_t struct_size;
  double loss;        /* weighted mean of -log p(target), nats */
  double loss_weight; /* sum of the loss weights */
  int64_t tokens;
} qft_eval_result;

/* Bytes of what a session holds, by purpose. All were allocated at open. */
typedef struct qft_session_metrics {
  uint64_t struct_size;
  int64_t step;
  int64_t parameters; /* of the model */
  int64_t parameters_trained;
  int64_t weight_bytes;   /* codes and grids, norms */
  int64_t critical_bytes; /* critical features: which, their weights and momentum */
  int64_t momentum_bytes;
  int64_t gradient_bytes;   /* the gradient stack */
  int64_t activation_bytes; /* kept inputs, boundaries */
  int64_t workspace_bytes;  /* temporaries, gradient accumulators, staging */
  int64_t total_bytes;
  int64_t residual_bytes; /* four more bits a weight */
  int64_t snapshot_bytes; /* host memory for saves beside training, not in total_bytes */
} qft_session_metrics;

/* Where work is enqueued. kind NONE: host memory, the call returns when done. */
#define QFT_STREAM_NONE 0
#define QFT_STREAM_LEGACY 1
#define QFT_STREAM_PER_THREAD 2
#define QFT_STREAM_HANDLE 3
typedef struct qft_stream {
  uint64_t struct_size;
  int32_t kind;
  int32_t reserved;
  void* handle; /* cudaStream_t where kind is HANDLE */
} qft_stream;

/* Log lines. level: 1 warning, 2 info. Called on the thread that calls the library. */
typedef void (*qft_log_callback)(void* user, int32_t level, const char* message, size_t length);

typedef struct qft_session_options {
  uint64_t struct_size;
  qft_log_callback log; /* NULL: silent */
  void* user;
  void (*destroy_user)(void* user); /* called once, when the session no longer needs it, also when
                                       open fails unless options itself is refused; may be NULL */
} qft_session_options;

/* Plans, allocates everything, reads the initial weights. options may be NULL.
 * Errors: NOT_FOUND (a group matches nothing), BAD_DATA (a weight is not finite), IO, OUT_OF_MEMORY
 * (the message says how much was planned, and what would fit), UNSUPPORTED (a combination of
 * settings).
 * Thread: any. Blocks: while weights are read. Since: 0.1. */
QFT_API qft_status qft_session_open(const qft_model* model, const qft_config* config,
                                    const qft_session_options* options, qft_session** session,
                                    qft_error** error);
/* Frees everything; waits for nothing but a call that is under way on another thread, the end of a
 * save in the background, which is cancelled, and with momentum = nvme the disk's answer to what it
 * was asked, at most half a minute.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_session_destroy(qft_session* session);

/* Whether `learning_rate`, the largest of the run, can move the weights under the configured
 * rounding: to nearest, at least 1 % of the trained rows must have a step (the grid, or with
 * residual_bits = 4 a sixteenth of it) below twice the rate.
 * Errors: OUT_OF_RANGE, whose message says what rate would. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_session_check_learning_rate(const qft_session* session, double learning_rate,
                                                   qft_error** error);

/* Opens a step. Errors: STATE (a step is open), OUT_OF_RANGE (a rate that with its factors is above
 * 1), SHAPE (group_count), POISONED.
 * Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_session_begin_step(qft_session* session, const qft_step_options* options,
                                          qft_error** error);
/* Forward and backward of `count` micro-batches. accumulation = vertical and gradients = fused take
 * all micro-batches of a step in one call; horizontal with a stack may be called again.
 * Errors: STATE, SHAPE, OUT_OF_RANGE (a token, a size, more micro-batches than planned).
 * Thread: one. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_session_accumulate(qft_session* session, const qft_batch* batches,
                                          int64_t count, qft_error** error);
/* Clips, updates, closes the step. result may be NULL.
 * Errors: STATE, NON_FINITE (gradients = fused only: part of the update has happened, the session is
 * poisoned). Thread: one. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_session_end_step(qft_session* session, qft_step_result* result,
                                        qft_error** error);
/* Closes an open step without an update. With gradients = fused and micro-batches accumulated the
 * update has happened: STATE. Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_session_abandon_step(qft_session* session, qft_error** error);
/* begin_step, accumulate, end_step. With momentum = nvme these, saves, restore, state_hash,
 * tensor_read and tensor_write of momentum may return what became of the disk: IO, NO_SPACE, CORRUPT
 * (it returned something else than was written), TIMEOUT, OUT_OF_MEMORY. The session is poisoned then.
 * Thread: one. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_session_step(qft_session* session, const qft_step_options* options,
                                    const qft_batch* batches, int64_t count,
                                    qft_step_result* result, qft_error** error);
/* Loss without training. token_losses [sum of tokens] receives -log p(target), 0 without target;
 * may be NULL. Errors: as accumulate; STATE while a step is open. Thread: one. Blocks: for the work.
 * Since: 0.1. */
QFT_API qft_status qft_session_evaluate(qft_session* session, const qft_batch* batches,
                                        int64_t count, qft_eval_result* result, float* token_losses,
                                        qft_error** error);

#define QFT_OUTPUT_LOGITS 0
#define QFT_OUTPUT_LOG_PROBABILITIES 1
/* One forward pass. what: QFT_OUTPUT_*. output [tokens * vocabulary] fp32, host, row-major.
 * capacity: its elements. Errors: SHAPE (capacity), as evaluate. Thread: one. Blocks: for the work.
 * Since: 0.1. */
QFT_API qft_status qft_session_forward(qft_session* session, const qft_batch* batch, int32_t what,
                                       float* output, size_t capacity, qft_error** error);

/* metrics [in, out] with struct_size set. Thread: any, also during a step. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_session_get_metrics(const qft_session* session, qft_session_metrics* metrics,
                                           qft_error** error);
/* Share of the critical features that would be chosen again today, by the ranges over random tokens;
 * 1 without critical features. Takes a forward pass. Errors: STATE while a step is open.
 * Thread: one. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_session_get_critical_overlap(qft_session* session, double* share,
                                                    qft_error** error);
/* What the session runs on. */
typedef struct qft_device_report {
  uint64_t struct_size;
  int64_t
      used_bytes; /* cpu: resident memory of this process; cuda: all that is in use on the device,
                          as the driver counts it, other programs included */
  int64_t total_bytes;                  /* of the machine's memory, or of the device's */
  double integer_operations_per_second; /* dense INT8 products and sums at the highest clock, each
                                            counted; 0: unknown */
  int64_t
      host_bytes; /* the session holds beside the engine's own: momentum, staging, boundaries and
                         snapshot; on a GPU page-locked. Since 0.1 */
} qft_device_report;
/* report [in, out] with struct_size set. Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_session_get_device(const qft_session* session, qft_device_report* report,
                                          qft_error** error);
/* Every allocation by purpose and the engine's description, as JSON copied into buffer.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_session_plan_json(const qft_session* session, char* buffer, size_t capacity,
                                         size_t* needed, qft_error** error);
/* xxh3-128 over all that a checkpoint holds of the weights and momenta, as 32 hex digits and a
 * terminator: two sessions with equal hashes hold the same bits. buffer at least 33 bytes.
 * Thread: one. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_session_state_hash(qft_session* session, char* buffer, size_t capacity,
                                          qft_error** error);

/* ---- plan ------------------------------------------------------------------------------------- */

/* What a session would hold and whether it would fit, without one: nothing is allocated and no
 * weight is read. */
typedef struct qft_plan qft_plan;

typedef struct qft_plan_options {
  uint64_t struct_size;
  const char* device;   /* a name of qft_plan_describe_devices, which need not be there. NULL: with
                           engine = cuda the machine's own device, or h100-80gb where it has none */
  size_t device_length; /* bytes of device */
  /* Of the disk for momentum = nvme, reading and writing at once, together. 0: measured for about a
   * second in nvme_folders, where momentum is planned there. Since 0.1 */
  double nvme_bytes_per_second;
} qft_plan_options;

/* Every device that can be planned for without being there: a JSON array of {name, device,
 * compute_capability, multiprocessors, total_bytes, context_bytes (in use before a session is opened),
 * measured (whether these bytes were, on such a device)}. Static string.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API const char* qft_plan_describe_devices(void);
/* Plans the session that qft_session_open would open. A session that would not fit is an answer and
 * no error. options may be NULL. plan [out].
 * Errors: NOT_FOUND (no such device, or a group matches nothing), INVALID_ARGUMENT (a device with
 * engine = cpu), OUT_OF_RANGE, UNSUPPORTED (a combination of settings), STRUCT_SIZE.
 * Thread: any. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_plan_create(const qft_model* model, const qft_config* config,
                                   const qft_plan_options* options, qft_plan** plan,
                                   qft_error** error);
/* A JSON object, borrowed until the plan is destroyed: all of qft_session_plan_json, and device
 * {profile, null for the machine's own; description; measured}; memory, an array of {purpose, tier,
 * bytes}; tiers, an array of {tier "device" or "host", bytes, reserved_bytes (left free for the
 * driver), limit_bytes or null}; fits; time, what a step is expected to take {seconds_per_step,
 * tokens_per_second, compute_seconds, transfer_seconds, waits_seconds, hidden_from_tokens,
 * nvme_bytes_per_second or null} or null where that is not known; choices, an array of {setting, chosen, reason}; would_fit, an
 * array of {settings, bytes} which have been planned and fit, [] where the plan fits itself. All sizes
 * are integers.
 * Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_plan_get_json(const qft_plan* plan, const char** json, size_t* length,
                                     qft_error** error);
/* Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_plan_destroy(qft_plan* plan);

/* ---- tensors ---------------------------------------------------------------------------------- */

/* Decoded values; I8: the codes, without residuals, 0 at critical features */
#define QFT_TENSOR_WEIGHT 0
#define QFT_TENSOR_GRID 1     /* fp32 [rows, 1]: the scale of each row */
#define QFT_TENSOR_MOMENTUM 2 /* decoded values */
#define QFT_TENSOR_GRADIENT 3 /* decoded values of the stack, between accumulate and end_step */

#define QFT_DEVICE_HOST 0
#define QFT_DEVICE_CUDA 1

typedef struct qft_tensor_view {
  uint64_t struct_size;
  void* data;
  int32_t device; /* QFT_DEVICE_* */
  int32_t device_index;
  int32_t dtype;      /* QFT_DTYPE_* */
  int32_t dimensions; /* 1 or 2 */
  int64_t shape[4];
  int64_t strides[4]; /* in elements; all zero: dense row-major */
} qft_tensor_view;

/* Copies tensor `index` of the model out of the session, into the view's memory. stream may be NULL.
 * Errors: SHAPE, OUT_OF_RANGE, UNSUPPORTED (device, dtype), STATE (no gradient now; a frozen tensor
 * has neither gradient nor momentum). Thread: one. Stream: host only in this version. Blocks: for the
 * copy. Since: 0.1. */
QFT_API qft_status qft_tensor_read(qft_session* session, int64_t index, int32_t what,
                                   const qft_tensor_view* view, const qft_stream* stream,
                                   qft_error** error);
/* Sets a weight from F32, BF16 or F16 values (quantised as at open) or a momentum.
 * Errors: as read; BAD_DATA (not finite). Thread: one. Stream: host only in this version. Blocks: for
 * the copy. Since: 0.1. */
QFT_API qft_status qft_tensor_write(qft_session* session, int64_t index, int32_t what,
                                    const qft_tensor_view* view, const qft_stream* stream,
                                    qft_error** error);

/* ---- decoding --------------------------------------------------------------------------------- */

/* A key/value cache over a session's weights, for one sequence. */
typedef struct qft_decoder qft_decoder;

/* capacity: tokens the cache can hold. Keep the session alive; a decoder whose session is destroyed
 * returns STALE. Errors: OUT_OF_RANGE, OUT_OF_MEMORY. Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_decoder_open(qft_session* session, int64_t capacity, qft_decoder** decoder,
                                    qft_error** error);
/* Appends tokens and gives the logits after the last one. logits [vocabulary] fp32 host, may be NULL.
 * Uses the session exclusively for the call. A call that fails leaves the cache as it was.
 * Errors: OUT_OF_RANGE (token, cache full), SHAPE (logits_capacity), BUSY, STATE.
 * Thread: one. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_decoder_feed(qft_decoder* decoder, const int32_t* token_ids, int64_t count,
                                    float* logits, size_t logits_capacity, qft_error** error);
/* Forgets what was fed. Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_decoder_reset(qft_decoder* decoder, qft_error** error);
/* Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_decoder_destroy(qft_decoder* decoder);

/* ---- checkpoints ------------------------------------------------------------------------------ */

/* Work that goes on after the call that began it; see the events below. */
typedef struct qft_event qft_event;

/* A save that is written whole, but not yet under its final name. */
typedef struct qft_save qft_save;
/* A checkpoint on disk, verified. */
typedef struct qft_checkpoint qft_checkpoint;

/* Writes folder/step_N.tmp with everything in it synced; N is the session's step. blob: the caller's
 * own bytes, say a data cursor, kept in the manifest; may be NULL with length 0.
 * Errors: IO, NO_SPACE, STATE (a step is open). Thread: one. Blocks: for the write. Since: 0.1. */
QFT_API qft_status qft_save_prepare(qft_session* session, const char* folder, size_t folder_length,
                                    const void* blob, size_t blob_length, qft_save** save,
                                    qft_error** error);
/* Renames to folder/step_N, durable when it returns. The handle stays to be destroyed.
 * Errors: IO, STATE (already committed). Thread: one. Blocks: for the write. Since: 0.1. */
QFT_API qft_status qft_save_commit(qft_save* save, qft_error** error);
/* Without a commit before it: removes what was written (abandon).
 * Thread: any. Blocks: for the removal. Since: 0.1. */
QFT_API void qft_save_destroy(qft_save* save);
/* prepare and commit; renames checkpoints of later steps, which a resume from an earlier one has left
 * behind, to step_N.superseded; then, unless `keep` is 0, removes all but the newest `keep` whole
 * checkpoints of the folder, as qft_checkpoint_prune does. Errors: as all three.
 * Thread: one. Blocks: for the write. Since: 0.1. */
QFT_API qft_status qft_session_save(qft_session* session, const char* folder, size_t folder_length,
                                    const void* blob, size_t blob_length, int64_t keep,
                                    qft_error** error);
/* path: a checkpoint, or a folder of them, of which the newest whole one is taken. Sizes and hashes
 * of every file are checked. warning [out, may be NULL]: borrowed text, "" or which newer ones were
 * passed over and why; one of another format version is an error instead.
 * Errors: NOT_FOUND (no whole checkpoint), CORRUPT, UNSUPPORTED (its format version), IO.
 * Thread: any. Blocks: for the read. Since: 0.1. */
QFT_API qft_status qft_checkpoint_open(const char* path, size_t path_length,
                                       qft_checkpoint** checkpoint, const char** warning,
                                       qft_error** error);
/* Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_checkpoint_destroy(qft_checkpoint* checkpoint);
/* step [out]. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_checkpoint_get_step(const qft_checkpoint* checkpoint, int64_t* step,
                                           qft_error** error);
/* blob, length [out], borrowed until the checkpoint is destroyed. Thread: any. Blocks: no.
 * Since: 0.1. */
QFT_API qft_status qft_checkpoint_get_blob(const qft_checkpoint* checkpoint, const void** blob,
                                           size_t* length, qft_error** error);
/* manifest.json as text, borrowed until the checkpoint is destroyed. Thread: any. Blocks: no.
 * Since: 0.1. */
QFT_API qft_status qft_checkpoint_get_manifest(const qft_checkpoint* checkpoint,
                                               const char** manifest, size_t* length,
                                               qft_error** error);
/* Replaces the session's states, step and seed by the checkpoint's.
 * Errors: SHAPE, STATE (a step is open; other kinds of states), CORRUPT, IO. A failure half way
 * poisons the session. Thread: one. Blocks: for the read. Since: 0.1. */
QFT_API qft_status qft_session_restore(qft_session* session, const qft_checkpoint* checkpoint,
                                       qft_error** error);

/* As qft_session_save, of the states as they are now, written by a thread of the library. With the
 * setting snapshot = host the session may be used for everything but another save (BUSY) as soon as
 * this returns: what would overwrite a state waits for its copy, mostly none. With snapshot = none
 * everything has happened when this returns, and *event is done. The outcome is the event's.
 * Destroying the session cancels a save under way: wait for the event first.
 * Errors: as qft_session_save; BUSY (a save of this session is under way).
 * Thread: one. Blocks: while a session without a snapshot saves. Since: 0.1. */
QFT_API qft_status qft_session_save_begin(qft_session* session, const char* folder,
                                          size_t folder_length, const void* blob,
                                          size_t blob_length, int64_t keep, qft_event** event,
                                          qft_error** error);

/* Storage of the caller's that takes a checkpoint's files. Called on the thread that saves, and must
 * not use the session or wait for its save. An answer other than 0 ends the save with CANCELLED, the answer as its native
 * code; the caller then removes what came before. */
typedef struct qft_checkpoint_sink {
  uint64_t struct_size;
  void* user;
  /* The next `size` bytes of file `name`, from `offset`: 0 first, then where the last write ended. */
  int32_t (*write)(void* user, const char* name, uint64_t offset, const void* data, size_t size);
  /* File `name` is whole. Once it has returned 0 for manifest.json, which comes last, the checkpoint
   * is. */
  int32_t (*finish)(void* user, const char* name);
} qft_checkpoint_sink;

/* The files of qft_save_prepare, into the caller's storage; committing them is the caller's.
 * Errors: CANCELLED (an answer of the sink), STATE, BUSY. Thread: one. Blocks: for the write.
 * Since: 0.1. */
QFT_API qft_status qft_session_save_to_sink(qft_session* session, const qft_checkpoint_sink* sink,
                                            const void* blob, size_t blob_length,
                                            qft_error** error);
/* The same in the background, as qft_session_save_begin: with snapshot = host a thread of the library
 * calls the sink, with none this call does. sink itself is borrowed for the call; sink->user must live
 * until the event is done, and destroying the session waits for that. Where the event is an error or
 * cancelled, the caller removes what came.
 * Errors: as qft_session_save_to_sink; with snapshot = host the answers of the sink are the event's.
 * Thread: one. Blocks: while a session without a snapshot saves. Since: 0.1. */
QFT_API qft_status qft_session_save_to_sink_begin(qft_session* session,
                                                  const qft_checkpoint_sink* sink, const void* blob,
                                                  size_t blob_length, qft_event** event,
                                                  qft_error** error);

/* Storage of the caller's that has one checkpoint's files. Called on the threads that call
 * qft_checkpoint_open_source and qft_session_restore. An answer other than 0 ends the call with
 * CANCELLED, the answer as its native code. */
typedef struct qft_checkpoint_source {
  uint64_t struct_size;
  void* user;
  /* size [out]: bytes of file `name`. */
  int32_t (*size)(void* user, const char* name, uint64_t* size);
  /* All `size` bytes from `offset`. */
  int32_t (*read)(void* user, const char* name, uint64_t offset, void* data, size_t size);
  /* Called once, when the checkpoint no longer needs it, also when opening fails unless source
   * itself is refused; may be NULL. */
  void (*destroy_user)(void* user);
} qft_checkpoint_source;

/* Opens one checkpoint in the caller's storage. As qft_checkpoint_open.
 * Errors: CORRUPT, CANCELLED (an answer of the source). Thread: any. Blocks: for the read.
 * Since: 0.1. */
QFT_API qft_status qft_checkpoint_open_source(const qft_checkpoint_source* source,
                                              qft_checkpoint** checkpoint, qft_error** error);

/* ---- events ----------------------------------------------------------------------------------- */

/* As qft_session_step, returning at once. Errors: UNSUPPORTED in this version.
 * Thread: one. Stream: the batches are read on `stream`. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_session_step_async(qft_session* session, const qft_step_options* options,
                                          const qft_batch* batches, int64_t count,
                                          const qft_stream* stream, qft_event** event,
                                          qft_error** error);
/* done [out]: 1 when the work has ended, well or not. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_event_poll(const qft_event* event, int32_t* done, qft_error** error);
/* Returns how the work ended, as often as asked. timeout_ms >= 0.
 * Errors: TIMEOUT (it has not ended), CANCELLED, OUT_OF_RANGE, or what the work failed with.
 * Thread: any. Blocks: up to timeout_ms. Since: 0.1. */
QFT_API qft_status qft_event_wait(const qft_event* event, int64_t timeout_ms, qft_error** error);
/* Asks the work to end. A save that isn't committed yet leaves nothing behind, and its event waits
 * as CANCELLED; what is done stays. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_event_cancel(qft_event* event, qft_error** error);
/* The work goes on. Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_event_destroy(qft_event* event);

/* ---- looking after checkpoints ---------------------------------------------------------------- */

/* What is in a folder of checkpoints, or what was removed from it. */
typedef struct qft_checkpoint_report qft_checkpoint_report;

#define QFT_CHECKPOINT_CHECK_SIZES 0  /* manifests whole, files there and of their size */
#define QFT_CHECKPOINT_CHECK_HASHES 1 /* and every byte what was written; reads all of them */

/* path: a checkpoint, or a folder of them. check: QFT_CHECKPOINT_CHECK_*. report [out]; what is
 * damaged is told in it and is no error. Errors: NOT_FOUND (no such folder), IO.
 * Thread: any. Blocks: for the read. Since: 0.1. */
QFT_API qft_status qft_checkpoint_report_create(const char* path, size_t path_length, int32_t check,
                                                qft_checkpoint_report** report, qft_error** error);
/* A JSON object, borrowed until the report is destroyed: folder, and entries ascending by step, each
 * with name; kind "checkpoint", "temporary" (a save under way or torn) or "superseded" (set aside by
 * a resume from an earlier one), of which only the first is ever loaded; step; bytes; whole, null
 * where it was not checked, as temporary and superseded ones in a folder are not; ranges, an array
 * of {file, tensor, begin, end, problem}: bytes [begin, end) of a file that were checked, tensor ""
 * where they are not one tensor's, problem "" where they are whole. With CHECK_HASHES each tensor is
 * a range. After qft_checkpoint_prune: folder, dry_run, freed_bytes, removed and kept, both arrays
 * of such entries. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_checkpoint_report_get_json(const qft_checkpoint_report* report,
                                                  const char** json, size_t* length,
                                                  qft_error** error);
/* Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_checkpoint_report_destroy(qft_checkpoint_report* report);

typedef struct qft_prune_options {
  uint64_t struct_size;
  int64_t keep;       /* >= 1: so many whole checkpoints stay, the newest */
  int64_t keep_every; /* and the first whole one of every so many steps; 0: no more */
  int32_t superseded; /* 1: what is superseded goes too */
  int32_t dry_run;    /* 1: removes nothing, tells what it would remove */
} qft_prune_options;

/* Removes the checkpoints of a folder that `options` does not keep, and what torn saves up to the
 * newest one's step left. The newest is verified by its hashes first: if it is not whole, nothing
 * goes. Not while a session saves into the folder. options [in] not NULL. report [out] may be NULL.
 * Errors: CORRUPT (the newest), OUT_OF_RANGE, INVALID_ARGUMENT (folder is a checkpoint), STRUCT_SIZE,
 * NOT_FOUND, IO. Thread: any. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_checkpoint_prune(const char* folder, size_t folder_length,
                                        const qft_prune_options* options,
                                        qft_checkpoint_report** report, qft_error** error);

#ifdef __cplusplus
}
#endif
#endif
