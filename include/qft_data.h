/* libqft_data: tokenizer, data sets, learning-rate schedules, conversations, generation and export,
 * built on qft_c.h. A library of its own, so that who embeds the core needs neither ICU nor this. The
 * conventions are those of qft_c.h.
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
/* The ids that the model expects before a text, its beginning-of-text token; encode does not add them.
 * ids [out, capacity] may be NULL with capacity 0; needed [out] counts all. Thread: any. Blocks: no.
 * Since: 0.1. */
QFT_API qft_status qft_tokenizer_get_prefix(const qft_tokenizer* tokenizer, int32_t* ids,
                                            size_t capacity, size_t* needed, qft_error** error);
/* The same for those after a text. Thread: any. Blocks: no. Since: 0.1. */
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

/* Files of JSON lines or of tokens, tokenised, mixed, shuffled and packed into batches. A line is a
 * record of one of these forms ("form" of the options names one, otherwise its fields tell):
 *   text               {"text"}
 *   prompt-completion  {"prompt", "completion"}: the completion is learnt
 *   alpaca             {"instruction", "input" (may be missing), "output"}: the output is learnt,
 *                      after Alpaca's standard prompt
 *   messages           {"messages": [{"role", "content", "reasoning_content", "weight", "train"}]}
 *   sharegpt           {"conversations": [{"from", "value", "weight", "train"}]}
 * reasoning_content, weight and train may be missing; with weight 0 or train false what the assistant
 * says is not learnt. "system" may stand beside the list of either.
 * The tokens of a document are the tokenizer's prefix (unless the prompt begins with it), those of its
 * text, or of prompt and completion each for itself, and the end token, which is learnt. Special
 * tokens written in the prompt of prompt-completion are recognised; in other texts they are plain
 * text. A conversation is what the chat template makes of it and no more, tokenised as a whole:
 * special tokens are recognised wherever they stand, as by transformers. What the assistant says is
 * learnt, with the token that ends its turn.
 * What is longer than sequence_tokens loses what precedes its first learnt token from the beginning
 * (all but the prefix, where it begins with that, or one token), then its end.
 *
 * A file of tokens, all numbers little endian and without padding: 8 bytes "QFTTOKEN"; uint32
 * version, 1; uint32 bytes of a token, 2 or 4; uint32 1 if there is a mask, else 0; uint32 0; uint64
 * tokens; uint64 documents; the tokens; the mask, one byte a token, 1 where it is learnt, 0 where
 * not; for each document a uint64, the number of tokens up to and with its last. No token is added.
 *
 * Some 150 bytes a document are kept in memory, and the tokens of as many as memory_limit allows;
 * the others are read from their file again when they are needed. */
typedef struct qft_dataset qft_dataset;

typedef struct qft_dataset_options {
  uint64_t struct_size;
  int64_t batch_tokens;    /* tokens of a batch (micro-batch); 0: 2048 */
  int64_t sequence_tokens; /* longest document, longer ones are cut; 0: batch_tokens */
  double held_out_share;   /* of the documents, chosen by hash of their content, so that equal
                               documents are never on both sides; 0: none */
  int64_t held_out_limit;  /* most documents held out; 0: no limit */
  uint64_t seed;           /* of the order */
  const char* form;        /* of all lines; NULL or empty: their fields tell */
  size_t form_length;
  const char* chat_template; /* chatml, llama-2, llama-3, llama-3.1, mistral-v0, mistral-v1,
                                mistral-v3, mistral-v3-tekken, qwen2, qwen2.5, qwen3, smollm2 or
                                zephyr; NULL or empty: the tokenizer's own, if it is one of them */
  size_t chat_template_length;
  const char* chat_date; /* in the texts of llama-3.1; NULL or empty: "26 Jul 2024" */
  size_t chat_date_length;
  int64_t memory_limit; /* bytes of tokens that are kept in memory; 0: no limit */
  int32_t skip_bad;     /* not 0: leave out records that are wrong, instead of failing */
  int32_t reserved;
} qft_dataset_options;

/* One file of a data set. */
typedef struct qft_dataset_file {
  uint64_t struct_size;
  const char* path;
  size_t path_length;
  double weight; /* share of the tokens of an epoch, relative to the other files'; all 0: every
                    document once an epoch. An epoch has about as many tokens as all files. */
} qft_dataset_file;

/* One document, as it is after any cut. */
typedef struct qft_document {
  uint64_t struct_size;
  int64_t tokens;
  const int32_t* token_ids;
  const uint8_t* learnt; /* one a token, 0 or 1 */
  int64_t dropped;       /* tokens that were cut off */
  int64_t file;          /* its place among the files */
  int64_t number;        /* of its line, from 1; in a file of tokens of the document, from 0 */
  int32_t held_out;
  int32_t reserved;
} qft_document;

typedef struct qft_dataset_info {
  uint64_t struct_size;
  int64_t documents; /* that train */
  int64_t documents_held_out;
  int64_t documents_truncated;
  int64_t tokens;  /* of the first epoch of the training part */
  int64_t batches; /* of the first epoch; others may differ by a few */
  int64_t batches_held_out;
  double packing_efficiency; /* tokens / (batches * batch_tokens) */
  int64_t records_skipped;   /* with skip_bad */
} qft_dataset_info;

/* Errors: FILE_NOT_FOUND, BAD_DATA (file, line and what is wrong with it; empty data), OUT_OF_RANGE,
 * UNSUPPORTED (no chat template of that name, an unknown one, or none; tools in a conversation,
 * chat_template_kwargs; "system" or "history" of an Alpaca record; weight or train of another role).
 * Thread: any. Blocks: while all is tokenised. Since: 0.1. */
QFT_API qft_status qft_dataset_open(const char* path, size_t path_length,
                                    const qft_tokenizer* tokenizer,
                                    const qft_dataset_options* options, qft_dataset** dataset,
                                    qft_error** error);
/* The same from several files. count: 1 .. 65536. Errors: also OUT_OF_RANGE (a weight that is
 * negative; weights for some files only). Thread: any. Blocks: while all is tokenised. Since: 0.1. */
QFT_API qft_status qft_dataset_open_files(const qft_dataset_file* files, int64_t count,
                                          const qft_tokenizer* tokenizer,
                                          const qft_dataset_options* options, qft_dataset** dataset,
                                          qft_error** error);
/* Thread: any. Blocks: while a batch is being made. Since: 0.1. */
QFT_API void qft_dataset_destroy(qft_dataset* dataset);
/* info [in, out] with struct_size set. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_get_info(const qft_dataset* dataset, qft_dataset_info* info,
                                        qft_error** error);
/* The next `count` batches, epoch after epoch without end, each epoch in its own order. From the first
 * call on, a thread makes those that come next, about 4 MiB of them or as many as the last call asked
 * for. What is wrong with one is said when it is asked for; the position then stays where it was.
 * batches [in, out; count] with struct_size set in each: arrays borrowed until the next call of
 * qft_dataset_next on this data set.
 * Errors: OUT_OF_RANGE (count below 1, more than 2^30 tokens at once), STRUCT_SIZE; STATE (a file
 * has changed since), IO. Thread: one. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_dataset_next(qft_dataset* dataset, qft_batch* batches, int64_t count,
                                    qft_error** error);
/* Held-out batch `index`; arrays borrowed until the data set is destroyed.
 * Errors: OUT_OF_RANGE. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_get_held_out(const qft_dataset* dataset, int64_t index,
                                            qft_batch* batch, qft_error** error);
/* Document `index` of all, 0 .. documents + documents_held_out - 1, in the order of the files; arrays
 * borrowed until the next call of this function on this data set.
 * Errors: OUT_OF_RANGE, STRUCT_SIZE, STATE, IO. Thread: one. Blocks: on file reads.
 * Since: 0.1. */
QFT_API qft_status qft_dataset_get_document(qft_dataset* dataset, int64_t index,
                                            qft_document* document, qft_error** error);
/* Why a record was skipped, of the first 100 ("file:line: ..."), copied into buffer.
 * Errors: OUT_OF_RANGE. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_get_skipped(const qft_dataset* dataset, int64_t index, char* buffer,
                                           size_t capacity, size_t* needed, qft_error** error);
/* epoch [out]: epochs begun before the position, as a fraction. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_dataset_get_epoch(const qft_dataset* dataset, double* epoch,
                                         qft_error** error);
/* The position as bytes to keep in a checkpoint, copied into buffer. Thread: any. Blocks: no.
 * Since: 0.1. */
QFT_API qft_status qft_dataset_get_cursor(const qft_dataset* dataset, void* buffer, size_t capacity,
                                          size_t* needed, qft_error** error);
/* Goes to a position. Errors: BAD_DATA (not a cursor), STATE (a cursor of other data or options).
 * Thread: one. Blocks: while a batch is being made. Since: 0.1. */
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

/* ---- conversations ----------------------------------------------------------------------------- */

typedef struct qft_chat_message {
  uint64_t struct_size;
  const char* role; /* system, user, assistant or tool */
  size_t role_length;
  const char* content;
  size_t content_length;
} qft_chat_message;

typedef struct qft_chat_options {
  uint64_t struct_size;
  const char* chat_template; /* as in qft_dataset_options */
  size_t chat_template_length;
  const char* chat_date;
  size_t chat_date_length;
} qft_chat_options;

/* The text of a conversation, up to where the assistant's next turn begins, copied into buffer: a
 * prompt for qft_generate with prompt_is_whole. count: 1 .. 65536.
 * Errors: BAD_DATA (roles, or an order of them, that the template does not have; no beginning or end
 * token), UNSUPPORTED (an unknown chat template, or none), OUT_OF_RANGE, STRUCT_SIZE. Thread: any.
 * Blocks: no. Since: 0.1. */
QFT_API qft_status qft_chat_render(const qft_tokenizer* tokenizer, const qft_chat_message* messages,
                                   int64_t count, const qft_chat_options* options, char* buffer,
                                   size_t capacity, size_t* needed, qft_error** error);
/* id [out] of the token that ends the assistant's turn. Errors: NOT_FOUND (the tokenizer lacks it);
 * as qft_chat_render. Thread: any. Blocks: no. Since: 0.1. */
QFT_API qft_status qft_chat_get_end(const qft_tokenizer* tokenizer, const qft_chat_options* options,
                                    int32_t* id, qft_error** error);

/* ---- generation ------------------------------------------------------------------------------- */

typedef struct qft_generate_options {
  uint64_t struct_size;
  int64_t maximum_tokens; /* new tokens; 0: 128 */
  double temperature;     /* 0: the most likely token */
  int64_t top_k;          /* 0: all */
  double top_p;           /* 0: all */
  uint64_t seed;
  const int32_t* stop_ids; /* tokens that end the answer, beside the end tokens; not borrowed */
  int64_t stop_count;      /* 0 .. 1024 */
  int32_t prompt_is_whole; /* non-zero: nothing is put before it; for what qft_chat_render gives */
  int32_t reserved;
} qft_generate_options;

/* A piece of the answer, whole UTF-8 characters. Non-zero stops. Called on the calling thread. */
typedef int32_t (*qft_text_callback)(void* user, const char* text, size_t length);

/* Continues `prompt` until one of the model's end tokens (those of the tokenizer, config.json and
 * generation_config.json), one of stop_ids or maximum_tokens. The answer is copied into
 * buffer (may be NULL with capacity 0) and, if callback is not NULL, handed out piece by piece; it is
 * what follows the prompt in the text of both. Special tokens in the prompt are recognised, and the
 * tokenizer's prefix comes before it unless it begins with it or prompt_is_whole.
 * Errors: as qft_decoder_feed; CANCELLED. Thread: one. Blocks: for the work. Since: 0.1. */
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
