/* SPDX-License-Identifier: Apache-2.0 */
/* setup.c - what every generation is told and given at its start, and what is told of that. */
#include <stdio.h>

#include "daemon/service/line.h"
#include "models/tokenizer/tokenizer.h"

static const enum device_storage storages[] = {
    [STORAGE_AUTO] = DEVICE_AUTO, [STORAGE_SVM] = DEVICE_SVM, [STORAGE_USM] = DEVICE_USM};

void line_fill_setup(const struct engines *e, uint64_t number, const struct plan *plan,
                     struct msg_setup *setup) {
    size_t n;
    const int32_t *eogs = tokenizer_eogs(e->loaded->tokenizer, &n);
    *setup = (struct msg_setup){
        .generation = number,
        .n_parts = e->loaded->files.n,
        .file = e->loaded->file,
        .n_threads = e->config->threads,
        .pin = e->config->pin_threads,
        .isa = e->config->isa,
        .scrub_s = e->config->scrub_s,
        .card_silence_s = e->config->card_silence_s,
        .storage = storages[e->config->storage],
        .hold = e->config->weights == WEIGHTS_HELD,
        .plan = *plan,
    };
    line_fill_staged(e, setup->staged);
    snprintf(setup->backend, sizeof setup->backend, "%s", e->backend->name);
    snprintf(setup->model_name, sizeof setup->model_name, "%s", e->loaded->path);
    for (uint32_t i = 0; i < e->topology->n_cards; i++)
        snprintf(setup->slots[i], sizeof setup->slots[i], "%s", e->topology->cards[i].slot);
    for (size_t i = 0; i < n && i < EOG_MAX; i++)
        setup->eog[setup->n_eog++] = eogs[i];
}

void line_add_files(const struct engines *e, int fds[STREAM_FDS_MAX], uint32_t *n_fds) {
    fds[(*n_fds)++] = e->loaded->sums_fd;
    for (uint32_t i = 0; i < e->loaded->files.n; i++)
        fds[(*n_fds)++] = e->loaded->files.fds[i];
    for (uint32_t i = 0; i < e->loaded->files.n; i++)
        fds[(*n_fds)++] = e->loaded->head_fds[i];
}

void line_tell_start(struct engines *e, uint64_t number, const struct plan *plan,
                     struct event *told) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < e->n_cards; i++)
        used += plan->cards[i].online;
    told->generation = number;
    line_event(e, told,
               "generation %llu starts on %u card%s (%s split): %llu MiB to load, %llu MiB kept",
               (unsigned long long)number, used, used == 1 ? "" : "s", plan_split_name(plan->split),
               (unsigned long long)told->reloaded_bytes >> 20,
               (unsigned long long)told->reused_bytes >> 20);
}
