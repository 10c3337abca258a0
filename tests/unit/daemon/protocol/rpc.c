/* SPDX-License-Identifier: Apache-2.0 */
/* JSON-RPC lines, and the methods that are not about text, over both framings. */
#include "tests/unit/daemon/fake_server.h"

static struct fake_server f;

static void start(void) {
    fake_server_init(&f);
    fake_server_start(&f);
}

static void expect(char *reply, const char *a, const char *b) {
    HAS(reply, a);
    if (b)
        HAS(reply, b);
    free(reply);
}

static const struct {
    const char *method, *verb, *path, *params, *part;
} method_cases[] = {
    {"status", "GET", "/octarc/v1/status", NULL, "\"state\": \"ready\", \"status\": \"serving"},
    {"status", "GET", "/octarc/v1/status", NULL,
     "\"weights\": \"shared\", \"weights_bytes\": 100, "
     "\"reused_bytes\": 60, \"huge_bytes\": 30"},
    {"health", "GET", "/health", NULL, "{\"status\": \"ok\"}"},
    {"health", "GET", "/v1/health", NULL, "{\"status\": \"ok\"}"},
    {"models", "GET", "/v1/models", NULL, "\"meta\": {\"vocab_type\": 2, \"n_vocab\": 260"},
    {"models", "GET", "/models/fake", "{\"id\": \"fake\"}", "\"object\": \"model\""},
    {"cards", "GET", "/octarc/v1/cards", NULL, "\"layers\": [0, 15], \"lanes\": [0, 8]"},
    {"cards", "GET", "/octarc/v1/cards", NULL, "\"huge_bytes\": 30, \"reused\": false"},
    {"cards", "GET", "/octarc/v1/cards", NULL, "\"huge_bytes\": null, \"reused\": false"},
    {"cards", "GET", "/octarc/v1/cards", NULL,
     "\"advised_bytes\": 90, \"prefetched_bytes\": 80, \"resident_bytes\": 70"},
    {"cards", "GET", "/octarc/v1/cards", NULL, "\"resident_bytes\": null"},
    {"cards", "GET", "/octarc/v1/cards", NULL, "\"carried_bytes\": 8192"},
    {"cards", "GET", "/octarc/v1/cards", NULL,
     "{\"from\": 1, \"to\": 0, \"mode\": \"direct\", \"bytes_per_s\": null"},
    {"ps", "GET", "/octarc/v1/ps", NULL, "{\"requests\": []}"},
    {"version", "GET", "/version", NULL, "{\"version\": \"" OCTARC_VERSION "\"}"},
    {"tokenize", "POST", "/tokenize", "{\"content\": \"hi\"}", "{\"tokens\": [104, 105]}"},
    {"detokenize", "POST", "/detokenize", "{\"tokens\": [104]}", "{\"content\": \"h\"}"},
    {"apply_template", "POST", "/apply-template",
     "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", "x|user"},
    {"complete", "POST", "/v1/completions", "{\"prompt\": \"x\", \"max_tokens\": 3}",
     "\"text\": \"abc\""},
    {"completion", "POST", "/completion", "{\"prompt\": \"x\", \"n_predict\": 3}",
     "\"content\": \"abc\""},
    {"chat", "POST", "/v1/chat/completions",
     "{\"max_tokens\": 2, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
     "\"content\": \"ab\""},
    {"reload", "POST", "/octarc/v1/reload", NULL, "unknown key 'colour'"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"lose\", \"card\": 1}",
     "{\"fault\": \"lose\", \"card\": 1, \"generation\": 3}"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"kill-engine\"}", "kill-engine"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"lose\", \"card\": 7}", "no card 7"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"hang\", \"card\": 1}",
     "{\"fault\": \"hang\", \"card\": 1, \"generation\": 3}"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"hang\", \"card\": 7}", "no card 7"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"melt\"}", "kill-engine"},
    {"measure", "POST", "/octarc/v1/measure", NULL,
     "{\"read_bytes_per_s\": 5, \"int8_ops_per_s\": 6, \"weights_bytes\": 7, "
     "\"huge_bytes\": null, \"token_bytes\": 8, "
     "\"layer_params\": 9, \"threads\": 2, \"isa\": \"avx2\"}"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"return\", \"card\": 1}", "return"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"corrupt\", \"card\": 1}",
     "{\"fault\": \"corrupt\", \"card\": 1, \"generation\": 3}"},
    {"drill", "POST", "/octarc/v1/drill", "{\"fault\": \"corrupt\", \"silent\": true}", "silent"},
    {"check", "POST", "/octarc/v1/check", NULL,
     "{\"cards\": [{\"card\": 0, \"ranges\": 9, \"bytes\": 640, \"seconds\": 0.5, \"harmed\": "
     "0, "
     "\"repaired\": 0}, {\"card\": 1, \"ranges\": 8, \"bytes\": 320, \"seconds\": 0.25, "
     "\"harmed\": 2, \"repaired\": 1}], \"harmed\": 2, \"repaired\": 1}"},
    {"check", "POST", "/octarc/v1/check", "{\"card\": 7}", "there is no card 7"},
    {"check", "POST", "/octarc/v1/check", "{\"card\": 1}", "other cards are being checked"},
    {"check", "POST", "/octarc/v1/check", "{\"card\": 8}", "\"bad_field\""},
    {"drain", "POST", "/octarc/v1/drain", "{\"card\": 1}",
     "{\"card\": 1, \"state\": \"draining\", \"generation\": 3, \"changed\": true}"},
    {"drain", "POST", "/octarc/v1/drain", "{\"card\": 0}", "the others are too small"},
    {"drain", "POST", "/octarc/v1/drain", "{\"card\": 7}", "\"bad_field\""},
    {"drain", "POST", "/octarc/v1/drain", NULL, "'card' is missing"},
    {"online", "POST", "/octarc/v1/online", "{\"card\": 1}", "\"state\": \"probing\""},
    {"online", "POST", "/octarc/v1/online", "{\"card\": 7}", "there is no card 7"},
    {"online", "POST", "/octarc/v1/online", "{\"card\": 0}",
     "{\"card\": 0, \"state\": \"online\", \"generation\": 3, \"changed\": false}"},
    {"online", "POST", "/octarc/v1/online", "{\"card\": 0, \"wait\": true}",
     "{\"card\": 0, \"state\": \"online\", \"generation\": 3, \"changed\": false}"},
    {"rebalance", "POST", "/octarc/v1/rebalance", "{\"dry_run\": true}",
     "\"reload_bytes\": 7, \"moves\": [{\"tensor\": \"blk.0.q\", \"rows\": [0, 4], "
     "\"cols\": [0, 16], \"bytes\": 64, \"from\": 1, \"to\": 0}, {\"tensor\": \"blk.0.q\", "
     "\"rows\": [4, 6], \"cols\": [0, 16], \"bytes\": 0, \"from\": null, \"to\": 0}]"},
    {"metrics", "GET", "/metrics", NULL, "octarc_generations_failed_total 3"},
    {"metrics", "GET", "/metrics", NULL, "octarc_card_faults_total{card="},
    {"metrics", "GET", "/metrics", NULL, "octarc_link_bytes_total{from="},
    {"metrics", "GET", "/metrics", NULL, "octarc_card_advised_bytes{card="},
    {"metrics", "GET", "/metrics", NULL, "octarc_card_resident_bytes{card="},
    {"metrics", "GET", "/metrics", NULL, "octarc_verified_bytes_total 600"},
    {"metrics", "GET", "/metrics", NULL, "octarc_kv_kept_tokens_total 64"},
    {"metrics", "GET", "/metrics", NULL, "octarc_memory_pressed 1"},
    {"metrics", "GET", "/metrics", NULL, "octarc_memory_pressures_total 9"},
    {"metrics", "GET", "/metrics", NULL, "octarc_ranges_harmed_total 2"},
    {"metrics", "GET", "/metrics", NULL, "octarc_ranges_repaired_total 1"},
    {"cancel", "POST", "/octarc/v1/cancel", "{\"id\": \"req-99\"}", "not_found"},
};

static void each_method_answers_on_both_framings(void) {
    fake_server_init(&f);
    f.fake.drills = true;
    fake_server_start(&f);
    for (size_t i = 0; i < sizeof method_cases / sizeof *method_cases; i++) {
        printf("# %s\n", method_cases[i].path);
        expect(rpc(&f, method_cases[i].method, method_cases[i].params), method_cases[i].part,
               "\"id\": 1");
        expect(http(&f, method_cases[i].verb, method_cases[i].path,
                    strcmp(method_cases[i].verb, "GET") != 0 ? method_cases[i].params : NULL),
               method_cases[i].part, "HTTP/1.1 ");
    }
    fake_server_stop(&f);
}

static void unknown_paths_and_methods_are_named(void) {
    start();
    expect(http(&f, "GET", "/nothing", NULL), " 404 ", "unknown_method");
    expect(http(&f, "GET", "/v1/completions", NULL), " 404 ", "this path takes POST");
    expect(http(&f, "POST", "/v1/chat/completions", "{\"messages\": [], \"functions\": [{}]}"),
           " 400 ", "not_supported");
    expect(http(&f, "GET", "/v1/models/other", NULL), " 404 ", "not_found");
    expect(rpc(&f, "nothing", NULL), "-32601", "no such method: 'nothing'");
    expect(rpc(&f, "complete", "[1]"), "-32602", "params");
    expect(rpc(&f, "complete", "{\"prompt\": \"x\", \"zip\": 1}"), "-32602", "\"param\": \"zip\"");
    expect(rpc(&f, "status", "{\"zip\": 1}"), "-32602", "unknown field 'zip'");
    expect(rpc(&f, "version", "null"), "\"result\": {\"version\"", NULL);
    expect(rpc(&f, "complete", "null"), "-32602", "'prompt' is missing");
    expect(rpc(&f, "cancel", "{\"id\": 1e300}"), "-32602", "\"param\": \"id\"");
    fake_server_stop(&f);
}

static void broken_lines_are_answered_and_the_connection_lives(void) {
    start();
    const int fd = fake_connect(&f);
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \n");
    expect(get(fd, "\n", 2000), "-32700", "\"id\": null");
    put(fd, "{\"id\": 4, \"method\": \"status\"}\n");
    expect(get(fd, "\n", 2000), "-32600", "\"id\": 4");
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": {}, \"method\": \"status\"}\n");
    expect(get(fd, "\n", 2000), "-32600", "'id' must be");
    put(fd, "7\n");
    expect(get(fd, "\n", 2000), "-32600", "must be an object");
    put(fd, "\n  \r\n{\"jsonrpc\": \"2.0\", \"id\": \"a\\\"b\", \"method\": \"health\"}\r\n");
    expect(get(fd, "\n", 2000), "\"id\": \"a\\\"b\", \"result\": {\"status\": \"ok\"}", NULL);
    close(fd);
    fake_server_stop(&f);
}

static void batches_and_notifications(void) {
    start();
    const int fd = fake_connect(&f);
    put(fd, "[{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": "
            "{\"prompt\": \"[}\\\"\", \"max_tokens\": 2}}, 5, {\"jsonrpc\": \"2.0\", \"id\": 2, "
            "\"method\": \"health\"}, {\"jsonrpc\": \"2.0\", \"method\": \"health\"}]\n");
    char *reply = get(fd, "]\n", 2000);
    HAS(reply, "\"id\": 1, \"result\": {");
    HAS(reply, "\"text\": \"ab\"");
    HAS(reply, "\"id\": 2, \"result\": {\"status\": \"ok\"}");
    HAS(reply, "-32600");
    CHECK_EQ(reply[0], '[');
    CHECK(strchr(reply, '\n') == reply + strlen(reply) - 1);
    free(reply);
    put(fd, "[]\n");
    expect(get(fd, "\n", 2000), "-32600", "empty batch");
    /* Only notifications: silence, then the next answer. */
    put(fd, "[{\"jsonrpc\": \"2.0\", \"method\": \"health\"}]\n"
            "{\"jsonrpc\": \"2.0\", \"method\": \"nothing\"}\n"
            "{\"jsonrpc\": \"2.0\", \"id\": 9, \"method\": \"version\"}\n");
    reply = get(fd, "\n", 2000);
    CHECK(!strncmp(reply, "{\"jsonrpc\": \"2.0\", \"id\": 9", 26));
    free(reply);
    struct buffer many = {0};
    for (int i = 0; i < 65; i++)
        buffer_printf(&many, "%s{\"jsonrpc\": \"2.0\", \"method\": \"health\"}", i ? "," : "[");
    buffer_append(&many, "]\n", 3);
    put(fd, many.bytes);
    buffer_finish(&many);
    expect(get(fd, "\n", 2000), "-32010", "64");
    close(fd);
    fake_server_stop(&f);
}

static void streams_are_notifications_and_interleave(void) {
    start();
    const int fd = fake_connect(&f);
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": {\"prompt\": "
            "\"x\", \"max_tokens\": 3, \"stream\": true}}\n"
            "{\"jsonrpc\": \"2.0\", \"id\": 2, \"method\": \"version\"}\n");
    char *reply = get(fd, "{\"done\": true}}\n", 2000);
    HAS(reply, "{\"jsonrpc\": \"2.0\", \"method\": \"chunk\", \"params\": {\"id\": 1, \"chunk\": ");
    HAS(reply, "\"text\": \"a\"");
    HAS(reply, "\"finish_reason\": \"length\"");
    CHECK(strstr(reply, "\"id\": 2, \"result\"") < strstr(reply, "\"id\": 1, \"result\""));
    free(reply);
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 3, \"method\": \"complete\", \"params\": {\"prompt\": "
            "\"fail\", \"stream\": true}}\n");
    expect(get(fd, "\"error\"", 2000), "-32024", "no card is left");
    close(fd);
    fake_server_stop(&f);
}

static void requests_are_cancelled_by_each_of_their_ids(void) {
    start();
    const int fd = fake_connect(&f);
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": \"mine\", \"method\": \"complete\", \"params\": "
            "{\"prompt\": \"hang\"}}\n"
            "{\"jsonrpc\": \"2.0\", \"id\": 2, \"method\": \"cancel\", \"params\": {\"rpc_id\": "
            "\"mine\"}}\n");
    char *reply = get(fd, "\"id\": 2", 2000);
    HAS(reply, "\"id\": \"mine\", \"error\": {\"code\": -32025");
    free(reply);
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 3, \"method\": \"complete\", \"params\": "
            "{\"prompt\": \"hang\"}}\n"
            "{\"jsonrpc\": \"2.0\", \"id\": 4, \"method\": \"ps\"}\n");
    expect(get(fd, "\"id\": 4", 2000), "\"id\": \"req-2\", \"uid\": 0, \"kind\": \"completion\"",
           "\"age_s\": 1.5");
    expect(rpc(&f, "cancel", "{\"id\": \"req-2\"}"), "{\"id\": \"req-2\", \"cancelled\": true}",
           NULL);
    expect(get(fd, "\n", 2000), "\"id\": 3, \"error\"", "cancelled");
    close(fd);
    fake_server_stop(&f);
}

static void an_id_is_sent_back_as_it_came(void) {
    static const struct {
        const char *id, *back, *other;
    } cases[] = {{"9007199254740991", "9007199254740991", "9007199254740990"},
                 {"9007199254740992", "9007199254740992", "9007199254740991"},
                 {"-9007199254740991", "-9007199254740991", "-9007199254740990"},
                 {"123456789012345678e-2", "1234567890123456.8", "1234567890123456.5"},
                 {"0.1", "0.10000000000000001", "0.10000000000000002"},
                 {"1e3", "1000", "1001"},
                 {"\"a\\u00e9\"", "\"a\xC3\xA9\"", "\"b\""}};
    start();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[400], want[100];
        const int fd = fake_connect(&f);
        snprintf(line, sizeof line,
                 "{\"jsonrpc\": \"2.0\", \"id\": %s, \"method\": \"complete\", \"params\": "
                 "{\"prompt\": \"hang\"}}\n"
                 "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"cancel\", \"params\": "
                 "{\"rpc_id\": %s}}\n",
                 cases[i].id, cases[i].other);
        put(fd, line);
        expect(get(fd, "\n", 2000), "\"id\": 1, \"error\"", "not_found");
        snprintf(line, sizeof line,
                 "{\"jsonrpc\": \"2.0\", \"id\": 2, \"method\": \"cancel\", \"params\": "
                 "{\"rpc_id\": %s}}\n",
                 cases[i].id);
        put(fd, line);
        char *reply = get(fd, "\"id\": 2", 2000);
        snprintf(want, sizeof want, "\"id\": %s, \"error\": {\"code\": -32025", cases[i].back);
        HAS(reply, want);
        snprintf(want, sizeof want, "\"result\": {\"id\": %s, \"cancelled\": true}", cases[i].back);
        HAS(reply, want);
        free(reply);
        close(fd);
    }
    fake_server_stop(&f);
}

static void only_an_administrator_cancels_what_others_asked(void) {
    for (int admin = 0; admin < 2; admin++) {
        fake_server_init(&f);
        f.user_only = !admin; /* root is a user on such a listener */
        fake_server_start(&f);
        const int fd = fake_connect(&f);
        put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": "
                "{\"prompt\": \"alien\"}}\n{\"jsonrpc\": \"2.0\", \"id\": 2, \"method\": "
                "\"version\"}\n");
        free(get(fd, "\"id\": 2", 2000));
        expect(rpc(&f, "cancel", "{\"id\": \"req-1\"}"), admin ? "\"cancelled\": true" : "-32012",
               NULL);
        close(fd);
        fake_server_stop(&f);
    }
}

static void a_user_may_not_do_what_an_administrator_may(void) {
    fake_server_init(&f);
    f.user_only = true;
    fake_server_start(&f);
    expect(rpc(&f, "drill", "{\"fault\": \"lose\"}"), "-32013", "not_permitted");
    expect(http(&f, "POST", "/octarc/v1/reload", NULL), " 403 ", "permission_error");
    expect(rpc(&f, "measure", NULL), "-32013", "not_permitted");
    expect(rpc(&f, "drain", "{\"card\": 1}"), "-32013", "not_permitted");
    expect(rpc(&f, "online", "{\"card\": 1}"), "-32013", "not_permitted");
    expect(rpc(&f, "rebalance", NULL), "-32013", "not_permitted");
    expect(rpc(&f, "events", NULL), "\"events\": []", NULL);
    expect(rpc(&f, "version", NULL), "\"result\"", NULL);
    fake_server_stop(&f);
}

/* Turns of the loop, in which waiting calls are looked at. */
static void turn(int n) {
    while (n-- > 0)
        free(rpc(&f, "version", NULL));
}

static void a_call_waits_until_its_card_has_arrived(void) {
    start();
    const int fd = fake_connect(&f);
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 5, \"method\": \"drain\", \"params\": {\"card\": 1, "
            "\"wait\": true}}\n");
    turn(5);
    expect(get(fd, "\n", 2000), "\"id\": 5, \"result\"",
           "\"state\": \"drained\", \"generation\": 3, \"changed\": true");
    close(fd);
    fake_server_stop(&f);
}

static void one_that_arrives_elsewhere_is_a_failure_that_says_why(void) {
    fake_server_init(&f);
    f.fake.arrives = "lost";
    fake_server_start(&f);
    const int fd = fake_connect(&f);
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 5, \"method\": \"online\", \"params\": {\"card\": 1, "
            "\"wait\": true}}\n");
    turn(5);
    expect(get(fd, "\n", 2000), "\"id\": 5, \"error\"", "card 1 is lost: it fell off");
    close(fd);
    fake_server_stop(&f);
}

static void events_come_as_they_happen_on_both_framings(void) {
    fake_server_init(&f);
    f.fake.first_event = 11;
    f.fake.last_event = 12;
    fake_server_start(&f);
    expect(rpc(&f, "events", "{\"since\": 11}"), "{\"events\": [{\"number\": 12, \"at_ms\": 1700",
           "\"last\": 12}");
    expect(rpc(&f, "events", NULL), "{\"number\": 10, \"at_ms\": 0, \"kind\": \"gap\"",
           "events 1 to 10 are not kept any more (key max_events)");
    expect(rpc(&f, "events", "{\"since\": -1}"), "bad_field", "since");
    expect(http(&f, "GET", "/octarc/v1/events/x7", NULL), " 400 ", "since");

    const int lines = fake_connect(&f), web = fake_connect(&f);
    put(lines, "{\"jsonrpc\": \"2.0\", \"id\": 5, \"method\": \"events\", \"params\": "
               "{\"since\": 12, \"stream\": true}}\n");
    put(web, "GET /octarc/v1/events/11 HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(get(web, "\n\n", 2000), "text/event-stream", NULL);
    turn(1); /* the followers are known now, and were told what there was */
    free(rpc(&f, "drain", "{\"card\": 1}"));
    expect(get(lines, "\n", 2000), "\"id\": 5, \"chunk\": {\"number\": 13", "\"to\": \"lost\"");
    expect(get(web, "\"number\": 13", 2000), "data: {\"number\": 13", NULL);

    put(lines, "{\"jsonrpc\": \"2.0\", \"id\": 6, \"method\": \"cancel\", \"params\": "
               "{\"rpc_id\": 5}}\n");
    expect(get(lines, "\"id\": 6", 2000), "\"id\": 5, \"error\": {\"code\": -32025", NULL);
    close(lines);
    close(web);
    fake_server_stop(&f);
}

/* What a socket holds of what nobody reads. */
static unsigned socket_bytes(void) {
    unsigned bytes = 212992;
    FILE *file = fopen("/proc/sys/net/core/wmem_default", "re");
    if (file && fscanf(file, "%u", &bytes) != 1)
        bytes = 212992;
    if (file)
        fclose(file);
    return bytes;
}

/* 20,000 events of 300 bytes: six times what may be unsent. */
static void a_follower_that_stops_reading_is_not_cut_and_misses_nothing(void) {
    fake_server_init(&f);
    f.fake.last_event = 20000;
    fake_server_start(&f);
    const int fd = fake_connect(&f);
    char want[64];
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 5, \"method\": \"events\", \"params\": "
            "{\"stream\": true}}\n");
    for (int i = 0; i < 20; i++) {
        turn(2);
        usleep(30000);
    }
    /* What waits is 64 KiB here, and what the socket holds. */
    CHECK(__atomic_load_n(&f.fake.events_taken, __ATOMIC_RELAXED) < 3000 + socket_bytes() / 100);
    char *reply = get(fd, "\"number\": 20000,", 10000), *at = reply;
    const char *end = reply + strlen(reply);
    for (int number = 1; number <= 20000; number++) {
        snprintf(want, sizeof want, "\"number\": %d,", number);
        /* It is near; a sanitizer looks at the whole of a string that has no length. */
        at = memmem(at, end - at < 2000 ? (size_t)(end - at) : 2000, want, strlen(want));
        CHECK(at);
    }
    free(reply);
    close(fd);
    fake_server_stop(&f);
}

static void the_kind_of_the_vocabulary_is_told(void) {
    fake_server_init(&f);
    fake_tokenizer.spm = true;
    fake_server_start(&f);
    expect(http(&f, "GET", "/v1/models", NULL), " 200 ", "\"vocab_type\": 1");
    fake_server_stop(&f);
}

static void without_a_model_it_says_so(void) {
    fake_server_init(&f);
    f.fake.no_model = true;
    f.fake.state = SERVICE_NO_MODEL;
    fake_server_start(&f);
    expect(http(&f, "GET", "/health", NULL), " 503 ", "\"name\": \"no_model\"");
    expect(http(&f, "POST", "/v1/completions", "{\"prompt\": \"x\"}"), " 503 ", "no_model");
    expect(http(&f, "POST", "/tokenize", "{\"content\": \"x\"}"), " 503 ", "no_model");
    expect(http(&f, "POST", "/octarc/v1/measure", NULL), " 503 ", "no_model");
    /* Whatever else is wrong or needs a vocabulary. */
    static const char *const fields[] = {"\"logit_bias\": [[\"a\", 1]]",
                                         "\"logit_bias\": {\"1\": 1}", "\"n_probs\": 5",
                                         "\"model\": \"other\"", "\"zip\": 1"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"prompt\": \"x\", %s}", fields[i]);
        expect(http(&f, "POST", "/completion", body), " 503 ", "\"name\": \"no_model\"");
        expect(rpc(&f, "chat", body), "-32021", "no_model");
        expect(rpc(&f, "tokenize", body), "-32021", "no_model");
    }
    expect(http(&f, "GET", "/v1/models", NULL), " 200 ", "\"data\": []");
    expect(http(&f, "GET", "/octarc/v1/status", NULL), " 200 ", "\"model\": null");
    f.fake.state = SERVICE_LOADING;
    expect(http(&f, "GET", "/health", NULL), " 503 ", "\"message\": \"Loading model\"");
    expect(http(&f, "POST", "/completion", "{\"prompt\": \"x\", \"logit_bias\": [[\"a\", 1]]}"),
           " 503 ", "\"name\": \"loading\"");
    f.fake.no_model = false; /* described already, its weights are still being read */
    expect(http(&f, "GET", "/health", NULL), " 503 ", "\"message\": \"Loading model\"");
    f.fake.state = SERVICE_RECOVERING;
    expect(http(&f, "GET", "/health", NULL), " 200 ", "ok");
    f.fake.state = SERVICE_DRAINING;
    expect(http(&f, "GET", "/health", NULL), " 503 ", "\"name\": \"draining\"");
    fake_server_stop(&f);
}

static void at_most_64_requests_are_under_way_on_a_connection(void) {
    start();
    const int fd = fake_connect(&f);
    for (int i = 0; i < 65; i++) {
        char line[160];
        snprintf(line, sizeof line,
                 "{\"jsonrpc\": \"2.0\", \"id\": %d, \"method\": \"complete\", \"params\": "
                 "{\"prompt\": \"hang\"}}\n",
                 i);
        put(fd, line);
    }
    expect(get(fd, "\n", 2000), "\"id\": 64, \"error\": {\"code\": -32020", "more than 64");
    close(fd);
    fake_server_stop(&f);
}

CHECK_MAIN(T(each_method_answers_on_both_framings), T(unknown_paths_and_methods_are_named),
           T(broken_lines_are_answered_and_the_connection_lives), T(batches_and_notifications),
           T(streams_are_notifications_and_interleave),
           T(requests_are_cancelled_by_each_of_their_ids), T(an_id_is_sent_back_as_it_came),
           T(only_an_administrator_cancels_what_others_asked),
           T(a_user_may_not_do_what_an_administrator_may),
           T(a_call_waits_until_its_card_has_arrived),
           T(one_that_arrives_elsewhere_is_a_failure_that_says_why),
           T(events_come_as_they_happen_on_both_framings),
           T(a_follower_that_stops_reading_is_not_cut_and_misses_nothing),
           T(the_kind_of_the_vocabulary_is_told), T(without_a_model_it_says_so),
           T(at_most_64_requests_are_under_way_on_a_connection))
