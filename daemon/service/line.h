/* SPDX-License-Identifier: Apache-2.0 */
/* line.h - inside the line of generations: what its files share.
 *
 * engines.c starts generations and hears of their ends; changeover.c says which cards they use;
 * succession.c has one take over from another that serves on; order.c has a running one go over to
 * other cards; check.c has it verify its weights; residency.c
 * tells what of them does not lie where it should; warm.c keeps them for a service that starts
 * again; putoff.c puts off what can wait; room.c says how much may stay in host memory; trial.c has
 * cards tried of which one may have ended an engine; links.c keeps what is found of links; told.c
 * passes on what the scheduler wants. */
#ifndef OCTARC_SERVICE_LINE_H
#define OCTARC_SERVICE_LINE_H

#include "daemon/protocol/host.h"
#include "daemon/service/engines.h"

#define NO_CARD UINT32_MAX

void line_changed(struct engines *engines);

/* --- engines.c --- */

/* Plan for the cards that may be used now, and start; wait where no plan fits. */
void line_start_next(struct engines *engines);
/* The generation ends in good order, because of `why`, and the next one is planned anew. */
void line_hand_over(struct engines *engines, const char *why);
void line_wait_for_card(struct engines *engines, const char *why);
/* The current one is ready, and serves. */
void line_serve(struct engines *engines, const struct msg_ready *ready, uint64_t now_ns);
/* Whoever asked it for limits is answered: with these, or (NULL) why there are none. */
void line_end_measuring(struct engines *engines, const struct msg_limits *limits, const char *why);
extern const struct process_events line_current_events;

/* --- setup.c --- */

/* What every generation is told and given but its memory. */
void line_fill_setup(const struct engines *engines, uint64_t number, const struct plan *plan,
                     struct msg_setup *setup);
void line_add_files(const struct engines *engines, int fds[STREAM_FDS_MAX], uint32_t *n_fds);
void line_tell_start(struct engines *engines, uint64_t number, const struct plan *plan,
                     struct event *told);

/* --- succession.c --- */

/* A generation that is to take over starts beside the one that serves, with the plan, which is its
 * own from then on.  False: that cannot be, or nobody would wait; nothing was changed. */
bool line_take_over(struct engines *engines, struct plan *plan, const char *why);
/* Whether what is to be done about the plan that is wanted is decided: by a second generation. */
bool line_beside_decides(struct engines *engines, struct plan *plan, const char *why);
/* The second generation is ended, where there is one; again: what is to be done is looked at when
 * it is gone, because of that (NULL: not). */
void line_drop_beside(struct engines *engines, const char *again);
/* A generation that leaves still uses the card. */
bool line_is_left(const struct engines *engines, uint32_t card);
/* About once a second. */
void line_beside_tick(struct engines *engines);

/* --- changeover.c --- */

/* What the configuration says of each card's memory; the host's share where it says nothing. */
void line_size_cards(struct engines *engines);
/* What every plan is made of, for these cards. */
void line_plan_input(const struct engines *engines, const bool *use, struct plan_input *input);
/* A plan for the cards that may be used, but for `without`.  As plan_build(). */
int line_plan(const struct engines *engines, uint32_t without, struct plan *plan, struct err *err);
/* No plan fits at the start; but it would if no card were held back.  True: line_plan() of all
 * cards is in *plan. */
bool line_held_back(const struct engines *engines, struct plan *plan);
/* A transition: applied, logged, and an event.  -EINVAL. */
int line_apply(struct engines *engines, uint32_t card, enum card_event event, const char *why,
               struct err *err);
/* Cards that are on their way have arrived, as far as the plan in use shows it. */
void line_settle(struct engines *engines);
/* The cards left cannot do without those that are being drained.  True: there were some. */
bool line_keep_draining(struct engines *engines, const char *why);
/* An engine reported a card lost. */
void line_lost(struct engines *engines, uint32_t card);
/* It ends, and says why; cards for which it does are lost. */
void line_failed(struct engines *engines, const struct msg_failed *msg);
/* An engine waits for silent cards, and will not be heard any more: it is ended. */
void line_fenced(struct engines *engines, const struct msg_fenced *msg);

/* --- order.c --- */

/* Two plans give every card the same to hold and to do, be it at another place of its memory. */
bool line_same_work(const struct plan *a, const struct plan *b);

/* Tell the engine that serves to go over to the plan, which is the order's from then on: or, where
 * it has no room for that, to the first on the way there (waves.h); when it is there the line asks
 * for the next.  False: it cannot be done while it runs, or could not be said; nothing was changed.
 */
bool line_go_over(struct engines *engines, struct plan *plan, const char *why);
void line_replanned(struct engines *engines, const struct msg_replanned *msg);
/* The plan in use is in the memory of these, or what the cards have. */
void line_take_memory(struct engines *engines, struct card_memory next[CARDS_MAX]);
/* The plan that will be in use as far as is known now. */
const struct plan *line_coming_plan(const struct engines *engines);
/* The engine computes nothing until it has gone over: a message that says otherwise is none. */
bool line_unheard(const struct engines *engines, const struct message *msg);
void line_forget_order(struct engines *engines);
/* The order under way has to be answered first: then what is to be done is looked at again. */
void line_ask_again(struct engines *engines, const char *why);

/* --- putoff.c --- */

/* Other cards are to be used because of `why`, and no request waits for it: as engines_use_cards(),
 * when memory is not short. */
void line_use_cards_in_time(struct engines *engines, const char *why);
/* The engine that serves now knows nothing of it. */
void line_say_put_off(struct engines *engines);

/* --- room.c --- */

/* Bytes of host memory in which what full cards exchange may wait: rebalance_stage, and what the
 * host has. */
uint64_t line_stage_limit(const struct engines *engines);
/* No plan fits, and with all of host_spill one might: an event, and the log. */
void line_tell_short(struct engines *engines);

/* --- residency.c --- */

/* What was prefetched and does not lie on its card, as the engine said it last: logged, and an
 * event for each such card. */
void line_tell_residency(struct engines *engines);
/* Where shared virtual memory was looked for and is not there: why, once. */
void line_tell_storage(struct engines *engines);
/* How much of the weights stays in host memory, where any does. */
void line_tell_spilled(struct engines *engines);

/* --- check.c --- */

void line_harmed(struct engines *engines, const struct msg_harmed *msg);
void line_verified(struct engines *engines, const struct msg_verified *msg);
/* Whoever asked for a check is answered: with this, or (NULL) why there is nothing. */
void line_end_check(struct engines *engines, const struct msg_verified *verified, const char *why);

/* --- held.c --- */

/* Where engines make the weights' memory: the plan is laid out in what a card holds.  What it has
 * no use for, or no room beside, is let go.  False: that is not so. */
bool line_lay_out_held(struct engines *engines, struct plan *plan, uint32_t card);
/* Such memory of the card comes with SETUP: pieces of so many bytes.  False: it does not. */
bool line_give_held(const struct engines *engines, const struct plan *plan, uint32_t card,
                    int fds[STREAM_FDS_MAX], uint32_t *n_fds, uint64_t bytes[DEVICE_PIECES_MAX]);
/* What the engine that is ready made, or took over, is held from now on; nothing else is of cards
 * that it uses. */
void line_take_held(struct engines *engines, const struct msg_ready *ready);
/* What was kept on each card, and what was read anew; and why memory is not held. */
void line_tell_held(struct engines *engines);
/* These cards did not take over what they held. */
void line_refuse_held(struct engines *engines, const struct msg_tried *msg);

/* --- held_kv.c --- */

/* K and V that are held come with SETUP, where this plan has them at the same places; else they are
 * let go. */
void line_give_kv(struct engines *engines, const struct plan *plan, int fds[STREAM_FDS_MAX],
                  uint32_t *n_fds, uint64_t bytes[CARDS_MAX]);
/* READY brought these: they are held from now on, and no others. */
void line_take_kv(struct engines *engines, const struct msg_ready *ready, const int *fds,
                  uint32_t n);
/* They are held no more; an event says why (NULL: none does). */
void line_drop_kv(struct engines *engines, const char *why);
/* Of how many tokens they are used; or why not. */
void line_tell_kv(struct engines *engines);

/* --- trial.c --- */

/* A card may have ended the current generation, and nobody knows which. */
bool line_is_puzzled(const struct engines *engines);
/* An engine tried its cards, and ends: the next plan is without these. */
void line_tried(struct engines *engines, const struct msg_tried *msg);

/* --- links.c --- */

/* What the generation that is ready found of its links; what one that tried them did. */
void line_judge_links(struct engines *engines);
void line_tried_links(struct engines *engines, const struct msg_tried *msg);
/* By reader, a bit for each owner whose memory it does not read by itself. */
void line_fill_staged(const struct engines *engines, uint32_t staged[CARDS_MAX]);

/* --- placed.c --- */

/* The plan in use keeps other overrides than the last one did: events and the log. */
void line_tell_places(struct engines *engines);

/* --- warm.c --- */

/* What the service before left for the card becomes its memory, where the plan wants that size;
 * what is in it is for the engine to prove. */
void line_take_left(struct engines *engines, uint32_t card);
/* The store keeps the memory of the cards in use, new memory only once it is `filled`, and nothing
 * else. */
void line_keep(struct engines *engines, bool filled);
/* The first engine could not use what was left: all is read anew, and the file is taken as it is
 * now.  False: nothing of it was used. */
bool line_forget_left(struct engines *engines);
/* What became of it, as READY says. */
void line_tell_left(struct engines *engines);

void line_event(struct engines *engines, struct event *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
