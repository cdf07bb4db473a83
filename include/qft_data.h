/* libqft_data: tokenizer, data sets, learning-rate schedules, generation and export, built on qft_c.h.
 * A library of its own, so that who embeds the core needs neither ICU nor this. The conventions are
 * those of qft_c.h.
 */
#ifndef QFT_DATA_H
#define QFT_DATA_H

#include "qft_c.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- tokenizer -------------------------------------------------------------------------------- */

/* BPE or SentencePiece. Immutable: may be used by several threads at once. */
typedef struct qft_tokenizer qft_tokenizer;

/* path: a tokenizer.json, a SentencePiece model (with ".model" in its name), a folder that holds one of
 * them (tokenizer.json before tokenizer.model), or a GGUF file.
 * Errors: FILE_NOT_FOUND, BAD_DATA, UNSUPPORTED (names what), IO. Thread: any. Blocks: for the read.
 * Since: 0.1. */
QFT_API qft_status qft_tokenizer_load(const char* path, size_t path_length,
                                      qft_tokenizer** tokenizer, qft_error** error);
/* Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_tokenizer_destroy(qft_tokenizer* tokenizer);
/* special != 0: special tokens written in the text ("<|im_end|>") become their ids; 0: they are plain
 * text. No token is added. ids [out, capacity] may be NULL with capacity 0; needed [out] counts all.
 * Text that is not UTF-8 is taken as Hugging Face tokenizers take it: each broken sequence becomes
 * U+FFFD. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_tokenizer_encode(const qft_tokenizer* tokenizer, const char* text,
                                        size_t text_length, int32_t special, int32_t* ids,
                                        size_t capacity, size_t* needed, qft_error** error);
/* The text of ids; special tokens are left out when skip_special != 0.
 * Errors: OUT_OF_RANGE. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_tokenizer_decode(const qft_tokenizer* tokenizer, const int32_t* ids,
                                        size_t count, int32_t skip_special, char* buffer,
                                        size_t capacity, size_t* needed, qft_error** error);
/* The ids that the model expects before a text (its beginning-of-text token) and after it; encode adds
 * neither. ids [out, capacity] may be NULL with capacity 0; needed [out] counts all. Thread: any.
 * Blocks: no. Since: 0.1. */
QFT_API qft_status qft_tokenizer_get_prefix(const qft_tokenizer* tokenizer, int32_t* ids,
                                            size_t capacity, size_t* needed, qft_error** error);
QFT_API qft_status qft_tokenizer_get_suffix(const qft_tokenizer* tokenizer, int32_t* ids,
                                            size_t capacity, size_t* needed, qft_error** error);
/* size [out]: largest id + 1. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_tokenizer_get_size(const qft_tokenizer* tokenizer, int64_t* size,
                                          qft_error** error);
/* id [out] of a token's text. Errors: NOT_FOUND. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_tokenizer_find(const qft_tokenizer* tokenizer, const char* token,
                                      size_t token_length, int32_t* id, qft_error** error);
/* id [out] of the token that ends a text. Errors: NOT_FOUND. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_tokenizer_get_end(const qft_tokenizer* tokenizer, int32_t* id,
                                         qft_error** error);

/* ---- data set --------------------------------------------------------------------------------- */

/* JSON lines, each {"text": ...} or {"prompt": ..., "completion": ...} (loss on the completion and
 * the end token only), tokenised, shuffled and packed into batches. The tokens of a document are the
 * tokenizer's prefix (unless the prompt begins with it), those of its text, or of prompt and
 * completion each for itself, and the end token. Special tokens written in a prompt are recognised; in
 * text and completion they are plain text. What is longer than sequence_tokens loses the beginning of
 * its prompt (all but the prefix, or one token), then its end. Token ids of all documents are kept in
 * memory. */
typedef struct qft_dataset qft_dataset;

typedef struct qft_dataset_options {
  uint64_t struct_size;
  int64_t batch_tokens;    /* tokens of a batch (micro-batch); 0: 2048 */
  int64_t sequence_tokens; /* longest document, longer ones are cut; 0: batch_tokens */
  double held_out_share;   /* of the documents, chosen by hash of their content, so that equal
                               documents are never on both sides; 0: none */
  int64_t held_out_limit;  /* most documents held out; 0: no limit */
  uint64_t seed;           /* of the order */
} qft_dataset_options;

typedef struct qft_dataset_info {
  uint64_t struct_size;
  int64_t documents; /* that train */
  int64_t documents_held_out;
  int64_t documents_truncated;
  int64_t tokens;  /* of one epoch of the training part */
  int64_t batches; /* of the first epoch; others may differ by a few */
  int64_t batches_held_out;
  double packing_efficiency; /* tokens / (batches * batch_tokens) */
} qft_dataset_info;

/* Errors: FILE_NOT_FOUND, BAD_DATA (file, line and what is wrong with it; empty data), OUT_OF_RANGE.
 * Thread: any. Blocks: while all is tokenised. Since: 0.1. */
QFT_API qft_status qft_dataset_open(const char* path, size_t path_length,
                                    const qft_tokenizer* tokenizer,
                                    const qft_dataset_options* options, qft_dataset** dataset,
                                    qft_error** error);
/* Thread: any. Blocks: no. Since: 0.1. */
QFT_API void qft_dataset_destroy(qft_dataset* dataset);
/* info [in, out] with struct_size set. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_get_info(const qft_dataset* dataset, qft_dataset_info* info,
                                        qft_error** error);
/* The next `count` batches, epoch after epoch without end, each epoch in its own order.
 * batches [in, out; count] with struct_size set in each: arrays borrowed until the next call of
 * qft_dataset_next on this data set.
 * Errors: OUT_OF_RANGE (count below 1, more than 2^30 tokens at once), STRUCT_SIZE.
 * Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_next(qft_dataset* dataset, qft_batch* batches, int64_t count,
                                    qft_error** error);
/* Held-out batch `index`; arrays borrowed until the data set is destroyed.
 * Errors: OUT_OF_RANGE. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_get_held_out(const qft_dataset* dataset, int64_t index,
                                            qft_batch* batch, qft_error** error);
/* epoch [out]: epochs begun before the position, as a fraction. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_get_epoch(const qft_dataset* dataset, double* epoch,
                                         qft_error** error);
/* The position as bytes to keep in a checkpoint, copied into buffer. Thread: any. Blocks: no.
 * Since: 0.1. */
QFT_API qft_status qft_dataset_get_cursor(const qft_dataset* dataset, void* buffer, size_t capacity,
                                          size_t* needed, qft_error** error);
/* Goes to a position. Errors: BAD_DATA (not a cursor), STATE (a cursor of other data or options).
 * Thread: one. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_set_cursor(qft_dataset* dataset, const void* cursor, size_t length,
                                          qft_error** error);

/* ---- learning rate ---------------------------------------------------------------------------- */

#define QFT_SCHEDULE_CONSTANT 0
#define QFT_SCHEDULE_LINEAR 1 /* to minimum_share of the peak at the last step */
#define QFT_SCHEDULE_COSINE 2 /* to minimum_share of the peak at the last step */
#define QFT_SCHEDULE_WSD 3    /* warm-up, stable, then linear over the last decay_steps */

typedef struct qft_schedule {
  uint64_t struct_size;
  int32_t kind;
  int32_t reserved;
  double peak;          /* > 0 */
  double minimum_share; /* 0 .. 1 */
  int64_t steps;        /* of the run */
  int64_t warmup_steps; /* linear from peak / warmup_steps */
  int64_t decay_steps;  /* WSD only; 0: a tenth of the steps */
} qft_schedule;

/* rate [out] of step `step` (from 0). Errors: OUT_OF_RANGE. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_schedule_get(const qft_schedule* schedule, int64_t step, double* rate,
                                    qft_error** error);

/* ---- generation ------------------------------------------------------------------------------- */

typedef struct qft_generate_options {
  uint64_t struct_size;
  int64_t maximum_tokens; /* new tokens; 0: 128 */
  double temperature;     /* 0: the most likely token */
  int64_t top_k;          /* 0: all */
  double top_p;           /* 0: all */
  uint64_t seed;
} qft_generate_options;

/* A piece of the answer, whole UTF-8 characters. Non-zero stops. Called on the calling thread. */
typedef int32_t (*qft_text_callback)(void* user, const char* text, size_t length);

/* Continues `prompt` until the end token or maximum_tokens. The answer is copied into buffer (may be
 * NULL with capacity 0) and, if callback is not NULL, handed out piece by piece. Special tokens in
 * the prompt are recognised, and the tokenizer's prefix comes before it, unless it begins with it. Errors: as qft_decoder_feed; CANCELLED. Thread: one. Blocks: for the
 * work. Since: 0.1. */
QFT_API qft_status qft_generate(qft_session* session, const qft_tokenizer* tokenizer,
                                const char* prompt, size_t prompt_length,
                                const qft_generate_options* options, qft_text_callback callback,
                                void* user, char* buffer, size_t capacity, size_t* needed,
                                qft_error** error);

/* ---- export ----------------------------------------------------------------------------------- */

/* Writes the session's weights as bf16 safetensors with config.json and, if tokenizer is not NULL,
 * tokenizer.json, tokenizer_config.json: a folder that Hugging Face transformers loads. The folder
 * appears whole or not at all. model: the one the session was opened from.
 * Errors: IO, NO_SPACE, STATE (the folder exists and is not empty). Thread: one. Blocks: for the
 * write. Since: 0.1. */
QFT_API qft_status qft_export(qft_session* session, const qft_model* model,
                              const qft_tokenizer* tokenizer, const char* folder,
                              size_t folder_length, qft_error** error);

#ifdef __cplusplus
}
#endif
#endif
