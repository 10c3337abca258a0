/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - the configuration: one table of keys, an INI file, and the command line over it.
 *
 * A configuration is a plain value.  It is parsed whole and then taken, or refused whole with the
 * file, line, key and value in the error and what is allowed there. */
#ifndef OCTARC_SERVICE_CONFIG_H
#define OCTARC_SERVICE_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/placement/place.h"

#define CONFIG_FILE_DEFAULT "/etc/octarc/octarc.conf"
#define CONFIG_BYTES_MAX    65536 /* of the file */

struct err;

enum backend_choice { BACKEND_AUTO, BACKEND_CPU, BACKEND_LEVEL_ZERO };
enum storage_choice { STORAGE_AUTO, STORAGE_SVM, STORAGE_USM };
/* Shared memory is made by the front; that of real cards is made by an engine, and held. */
enum weights_choice { WEIGHTS_SHARED, WEIGHTS_PRIVATE, WEIGHTS_HELD };
#define SHARE_FREE   UINT64_MAX
#define SCRUB_MOST_S 2592000 /* thirty days */

enum measure_choice { MEASURE_CHANGED, MEASURE_ALWAYS, MEASURE_NEVER };
enum rebalance_choice { REBALANCE_RUNNING, REBALANCE_RESTART };
enum drill_choice { DRILL_AUTO, DRILL_OFF, DRILL_ON };

struct config {
    /* [engine] */
    char model[PATH_MAX]; /* empty: none */
    uint32_t context;     /* tokens; 0: min(trained, 4096) */
    uint32_t backend;     /* enum backend_choice */
    uint32_t cards;
    struct config_sizes {
        uint32_t n;
        uint64_t bytes[CARDS_MAX];
    } card_memory;            /* n = 0: a share of the free memory; 1: the same for all cards */
    uint64_t host_spill;      /* bytes; SHARE_FREE: a share of the free memory */
    uint32_t split;           /* enum split */
    struct places places;     /* the file's, then those of the command line */
    uint32_t storage;         /* enum storage_choice */
    uint32_t weights;         /* enum weights_choice */
    uint32_t rebalance;       /* enum rebalance_choice */
    uint64_t rebalance_stage; /* bytes; 0: none */
    uint32_t measure_links;   /* enum measure_choice */
    uint32_t scrub_s;         /* 0: never */
    uint32_t kv_type;         /* enum kv_type */
    uint32_t threads;         /* 0: one a usable core */
    uint32_t pin_threads;     /* 0 or 1 */
    uint32_t max_sequences;
    uint32_t isa;            /* enum instruction_set */
    char topology[PATH_MAX]; /* empty: a plain box of `cards` cards */

    /* [service] */
    char listen[PATH_MAX]; /* empty: the default path */
    uint32_t drill;        /* enum drill_choice */
    uint32_t drain_timeout_s, no_card_wait_s;
    uint32_t engine_silence_s; /* 0: for ever */
    uint32_t card_silence_s;   /* in a step, before one was measured */
    uint32_t probe_silence_s;  /* of who looks at the cards */
    uint32_t card_quiet_s;
    uint32_t card_faults;           /* within CARD_FAULTS_WINDOW_S */
    char memory_pressure[PATH_MAX]; /* "auto", "no", or a file */
    uint32_t memory_stall_percent;
    uint32_t memory_least_mib; /* 0: any */
    uint32_t memory_quiet_s, memory_wait_s;
    uint32_t max_events;
    char state_dir[PATH_MAX]; /* empty: $STATE_DIRECTORY, else none */
    uint32_t warm_restart;    /* 0 or 1 */
    uint32_t log_level;       /* enum log_priority */
    char group[64];           /* of the socket that is bound here; empty: as the process */

    /* [queue] */
    uint32_t max_queue, max_queue_per_user;

    /* [socket] */
    uint32_t max_request_bytes, max_connections;
    uint32_t header_timeout_s, body_timeout_s, idle_timeout_s;
    char admin_group[64];

    bool simulated;   /* --cards or --topology was given on the command line */
    bool cards_given; /* the key cards was, anywhere */
};

/* A configuration with every key at its default. */
void config_default(struct config *config);

/* Read a file over *config.  -ENOENT (no such file), -EINVAL, -E2BIG, or what reading failed with;
 * *config is untouched then. */
int config_read(struct config *config, const char *path, struct err *err);
/* The same of n bytes; `name` stands for the file in messages. */
int config_parse(struct config *config, const char *text, size_t n, const char *name,
                 struct err *err);
/* Set one key from the command line ("card-memory", "2G,1G").  -ENOENT: no such option. */
int config_option(struct config *config, const char *option, const char *value, struct err *err);
/* What one key cannot see: counts that belong together.  -EINVAL. */
int config_check(const struct config *config, struct err *err);

const char *config_weights_name(const struct config *config);
/* May faults be rehearsed? */
bool config_drill(const struct config *config);

/* The keys, for tests and for the reload. */
size_t config_n_keys(void);
struct config_key_view {
    const char *section, *name, *value; /* value: the default as a file writes it */
    bool live;                          /* takes effect on a reload */
};
struct config_key_view config_key(size_t i);
bool config_key_equal(size_t i, const struct config *a, const struct config *b);
/* The values of all live keys, and of no other. */
void config_take_live(struct config *to, const struct config *from);

#endif
