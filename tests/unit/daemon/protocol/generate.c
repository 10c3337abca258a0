/* SPDX-License-Identifier: Apache-2.0 */
/* What a request that makes text is answered, over the real socket, around a fake scheduler. */
#include "tests/unit/daemon/fake_server.h"

static struct fake_server f;

static void start(void) {
    fake_server_init(&f);
    fake_server_start(&f);
}

#define POST(path, body, ...)                                                                      \
    do {                                                                                           \
        const char *parts[] = {__VA_ARGS__};                                                       \
        char *reply = http(&f, "POST", path, body);                                                \
        for (size_t i_ = 0; i_ < sizeof parts / sizeof *parts; i_++)                               \
            HAS(reply, parts[i_]);                                                                 \
        free(reply);                                                                               \
    } while (0)

static void a_completion_has_openai_shape(void) {
    start();
    POST("/v1/completions", "{\"prompt\": \"hello\", \"max_tokens\": 5, \"model\": \"fake\"}",
         "HTTP/1.1 200", "application/json", "\"id\": \"cmpl-", "\"object\": \"text_completion\"",
         "\"text\": \"abcde\"", "\"finish_reason\": \"length\"", "\"prompt_tokens\": 5",
         "\"completion_tokens\": 5", "\"total_tokens\": 10", "\"cached_tokens\": 1",
         "\"timings\": {\"cache_n\": 1, \"prompt_n\": 4", "\"system_fingerprint\": \"b",
         "\"logprobs\": null");
    POST("/completions", "{\"prompt\": \"hello\"}", "\"text\": \"abcdefghijabcdef\"");
    POST("/v1/completions", "{\"prompt\": [\"a\", \"b\"], \"n\": 2, \"max_tokens\": 2}",
         "\"index\": 0, \"text\": \"ab\"", "\"index\": 1, \"text\": \"bc\"",
         "\"index\": 2, \"text\": \"ab\"", "\"index\": 3, \"text\": \"bc\"");
    POST("/v1/completions", "{\"prompt\": [[104, 105], [104]], \"max_tokens\": 1, \"echo\": true}",
         "\"text\": \"hia\"", "\"text\": \"ha\"");
    fake_server_stop(&f);
}

static void echo_with_logprobs_scores_the_prompt(void) {
    start();
    POST("/v1/completions",
         "{\"prompt\": \"hey\", \"max_tokens\": 0, \"echo\": true, \"logprobs\": 1}",
         "\"text\": \"hey\"", "\"tokens\": [\"h\", \"e\", \"y\"]",
         "\"token_logprobs\": [null, -0.5, -1.5]", "\"text_offset\": [0, 1, 2]",
         "\"top_logprobs\": [null, {\"x\": -0.5, \"e\": -0.5}");
    POST("/v1/completions", "{\"prompt\": \"utf8\", \"max_tokens\": 5, \"logprobs\": 2}",
         "\"text\": \"\xC3\xA9\xE2\x82\xAC\"", "\"bytes:\\\\xc3\", \"bytes:\\\\xa9\"",
         "\"text_offset\": [0, 1, 1, 2, 2]");
    fake_server_stop(&f);
}

static void a_chat_has_openai_shape(void) {
    start();
    POST("/v1/chat/completions",
         "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
         "\"hi\"}]}], \"max_completion_tokens\": 3, \"logprobs\": true, \"top_logprobs\": 2}",
         "\"id\": \"chatcmpl-", "\"object\": \"chat.completion\"",
         "\"message\": {\"role\": \"assistant\", \"content\": \"abc\", \"refusal\": null}",
         "\"content\": [{\"token\": \"a\", \"bytes\": [97], \"logprob\": -1.25, \"top_logprobs\": ",
         "\"bytes\": [255]");
    POST("/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
         "\"content\": \"abcdefghijabcdefghij\"", "\"finish_reason\": \"stop\"");
    POST("/apply-template", "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
         "{\"prompt\": \"hi|user\\nassistant:\"}");
    POST("/v1/chat/completions", "{\"messages\": [{\"role\": \"raise\", \"content\": \"\"}]}",
         "HTTP/1.1 400", "roles must alternate", "\"param\": \"messages\"");
    fake_server_stop(&f);
}

static void a_completion_has_llama_shape(void) {
    start();
    POST("/completion",
         "{\"prompt\": [104, \"i\"], \"n_predict\": 2, \"n_probs\": 2, \"return_tokens\": true, "
         "\"temperature\": 0, \"seed\": 7}",
         "\"content\": \"ab\"", "\"tokens\": [97, 98]", "\"stop\": true",
         "\"stop_type\": \"limit\"", "\"tokens_evaluated\": 2", "\"tokens_predicted\": 2",
         "\"completion_probabilities\": [{\"id\": 97, \"token\": \"a\", \"bytes\": [97], "
         "\"logprob\": -1.25, \"top_logprobs\": [{\"id\": 120,",
         "\"seed\": 7", "\"prompt\": \"hi\"", "\"model\": \"fake\"", "\"truncated\": false");
    POST("/completion", "{\"prompt\": \"utf8\", \"n_predict\": 4, \"n_probs\": 260}",
         "\"id\": 195, \"token\": \"\xEF\xBF\xBD\", \"bytes\": [195]", "\"id\": 226");
    POST("/completion", "{\"prompt\": \"hi\", \"stop\": \"stop\"}", "\"stop_type\": \"word\"",
         "\"stopping_word\": \"stop\"", "\"content\": \"abc\"");
    POST("/completion", "{\"prompt\": \"hi\"}", "\"stop_type\": \"eos\"");
    POST("/completion", "{\"prompt\": [\"x\", \"y\"], \"n_predict\": 1}", "\r\n\r\n[{\"index\": 0",
         "{\"index\": 1");
    POST("/completion", "{\"prompt\": \"hi\", \"stream\": true, \"n_predict\": 2}",
         "data: {\"index\": 0, \"content\": \"a\", \"tokens\": [97], \"id_slot\": 0, \"stop\": "
         "false",
         "\"content\": \"\"", "\"stop\": true", "\"stop_type\": \"limit\"");
    fake_server_stop(&f);
}

static void streams_have_openai_shape(void) {
    start();
    char *reply = http(&f, "POST", "/v1/chat/completions",
                       "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"stream\": "
                       "true, \"max_tokens\": 2, \"stream_options\": {\"include_usage\": true}}");
    HAS(reply, "text/event-stream");
    HAS(reply, "\"delta\": {\"role\": \"assistant\"}, \"logprobs\": null, \"finish_reason\": null");
    HAS(reply, "\"delta\": {\"content\": \"a\"}");
    HAS(reply, "\"delta\": {\"content\": \"b\"}");
    HAS(reply, "\"delta\": {}, \"logprobs\": null, \"finish_reason\": \"length\"");
    HAS(reply, "\"choices\": [], \"usage\": {\"prompt_tokens\": 18");
    HAS(reply, "data: [DONE]\n\n");
    HAS_NOT(reply, "\"content\": \"\"");
    free(reply);
    reply = http(&f, "POST", "/v1/completions",
                 "{\"prompt\": \"utf8\", \"stream\": true, \"max_tokens\": 4, \"echo\": true, "
                 "\"logprobs\": 0}");
    HAS(reply, "\"text\": \"utf8");
    HAS(reply, "\xC3\xA9");
    HAS_NOT(reply, "\"usage\"");
    /* The first byte of a character that did not come whole: its token is in the last chunk. */
    HAS(reply, "data: [DONE]\n\n");
    free(reply);
    fake_server_stop(&f);
}

static void failures_before_and_inside_a_stream(void) {
    start();
    POST("/v1/completions", "{\"prompt\": \"fail\"}", "HTTP/1.1 503", "Retry-After: 1",
         "\"name\": \"no_device\"", "no card is left");
    POST("/v1/completions", "{\"prompt\": \"fail\", \"stream\": true}", "HTTP/1.1 200",
         "data: {\"error\": {\"code\": 503", "\"name\": \"no_device\"");
    POST("/v1/completions", "{\"prompt\": \"long\"}", "HTTP/1.1 400",
         "\"name\": \"prompt_too_long\"", "context holds 8");
    POST("/v1/completions", "{\"prompt\": \"full\"}", "HTTP/1.1 429", "\"name\": \"overloaded\"",
         "max_queue");
    POST("/v1/completions", "{\"prompt\": [\"hi\", \"full\"]}", "HTTP/1.1 429");
    fake_server_stop(&f);
}

static void fields_are_judged_by_name(void) {
    static const struct {
        const char *path, *body, *status, *part;
    } cases[] = {
        {"/v1/completions", "{\"prompt\": \"a\", \"colour\": 1}", " 400 ", "\"param\": \"colour\""},
        {"/v1/completions", "{\"prompt\": \"a\", \"temperature\": -1}", " 400 ", "temperature"},
        {"/v1/completions", "{\"prompt\": \"a\", \"temperature\": \"hot\"}", " 400 ", "a number"},
        {"/v1/completions", "{\"prompt\": \"a\", \"n\": 17}", " 400 ", "between 1 and 16"},
        {"/v1/completions", "{\"prompt\": \"a\", \"n\": 1.5}", " 400 ", "an integer"},
        {"/v1/completions", "{\"prompt\": \"a\", \"best_of\": 2}", " 400 ", "best_of"},
        {"/v1/completions", "{\"prompt\": \"a\", \"suffix\": \"b\"}", " 400 ", "suffix"},
        {"/v1/completions", "{\"prompt\": \"a\", \"logprobs\": true}", " 400 ", "logprobs"},
        {"/v1/completions", "{\"prompt\": \"\"}", " 400 ", "is empty"},
        {"/v1/completions", "{\"prompt\": []}", " 400 ", "is empty"},
        {"/v1/completions", "{\"prompt\": [[]]}", " 400 ", "is empty"},
        {"/v1/completions", "{\"prompt\": 5}", " 400 ", "'prompt' must be"},
        {"/v1/completions", "{\"prompt\": [260]}", " 400 ", "the vocabulary has 260"},
        {"/v1/completions", "{\"prompt\": [-1]}", " 400 ", "the vocabulary has 260"},
        {"/v1/completions", "{}", " 400 ", "'prompt' is missing"},
        {"/v1/completions", "[]", " 400 ", "\"name\": \"bad_request\""},
        {"/v1/completions", "{\"prompt\": \"a\"", " 400 ", "\"name\": \"bad_json\""},
        {"/v1/completions", "{\"prompt\": \"\xFF\"}", " 400 ", "invalid UTF-8"},
        {"/v1/completions", "{\"prompt\": \"a\", \"model\": \"gpt\"}", " 404 ", "not_found"},
        {"/v1/completions", "{\"prompt\": \"a\", \"stop\": [\"\", 1]}", " 400 ", "'stop' must be"},
        {"/v1/completions", "{\"prompt\": \"a\", \"logit_bias\": {\"999\": 1}}", " 400 ", "999"},
        {"/v1/completions", "{\"prompt\": \"a\", \"logit_bias\": {\"9\": 101}}", " 400 ", "100"},
        {"/v1/completions", "{\"prompt\": \"a\", \"response_format\": {\"type\": \"json_object\"}}",
         " 400 ", "json_object"},
        {"/v1/completions", "{\"prompt\": \"a\", \"seed\": 1.5}", " 400 ", "seed"},
        {"/v1/completions", "{\"prompt\": \"a\", \"seed\": 1e300}", " 400 ", "up to 2^53"},
        {"/v1/completions", "{\"prompt\": \"a\", \"seed\": 1e16}", " 400 ", "up to 2^53"},
        {"/v1/completions", "{\"prompt\": \"a\", \"logit_bias\": {\" 5\": 1}}", " 400 ", "ids"},
        {"/v1/completions", "{\"prompt\": \"a\", \"logit_bias\": {\"+6\": 1}}", " 400 ", "ids"},
        {"/v1/completions", "{\"prompt\": \"a\", \"logit_bias\": {\"07\": 1}}", " 400 ", "ids"},
        {"/v1/completions", "{\"prompt\": \"a\", \"logit_bias\": {\"\": 1}}", " 400 ", "ids"},
        {"/v1/completions", "{\"prompt\": \"a\", \"logit_bias\": {\"5 \": 1}}", " 400 ", "ids"},
        {"/v1/completions", "{\"prompt\": \"a\", \"stream_options\": {\"x\": 1}}", " 400 ", "'x'"},
        {"/v1/completions", "{\"prompt\": \"a\", \"typical_p\": 0.5}", " 400 ", "only 1"},
        {"/v1/chat/completions", "{\"messages\": []}", " 400 ", "is empty"},
        {"/v1/chat/completions",
         "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"chat_template_kwargs\": "
         "{\"a\": 1, \"messages\": []}}",
         " 400 ", "must not set 'messages'"},
        {"/apply-template",
         "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"chat_template_kwargs\": "
         "{\"bos_token\": \"\"}}",
         " 400 ", "\"param\": \"chat_template_kwargs\""},
        {"/v1/chat/completions", "{\"messages\": [5]}", " 400 ", "messages[0]"},
        {"/v1/chat/completions", "{\"messages\": [{\"role\": \"user\"}]}", " 400 ", "'content'"},
        {"/v1/chat/completions",
         "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
         " 400 ", "image_url"},
        {"/v1/chat/completions",
         "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": [{}]}", " 400 ",
         "tools"},
        {"/v1/chat/completions",
         "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"top_logprobs\": 1}", " 400 ",
         "needs 'logprobs'"},
        {"/completion", "{\"prompt\": \"a\", \"n_probs\": 261}", " 400 ", "between 0 and 260"},
        {"/completion", "{\"prompt\": \"a\", \"grammar\": \"root ::= x\"}", " 400 ", "grammar"},
        {"/completion", "{\"prompt\": [{}]}", " 400 ", "prompt"},
        {"/tokenize", "{}", " 400 ", "'content' is missing"},
        {"/detokenize", "{\"tokens\": [1, 300]}", " 400 ", "tokens[1]"},
    };
    start();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *reply = http(&f, "POST", cases[i].path, cases[i].body);
        printf("# %s\n", cases[i].body);
        HAS(reply, cases[i].status);
        HAS(reply, cases[i].part);
        HAS(reply, "\"error\": {\"code\": ");
        free(reply);
    }
    fake_server_stop(&f);
    CHECK_EQ(f.fake.scheduler.submitted, 0);
}

static void accepted_fields_reach_the_scheduler(void) {
    start();
    POST("/completion",
         "{\"prompt\": \"hi\", \"n_predict\": 4, \"temperature\": 0.25, \"top_k\": 3, \"top_p\": "
         "0.5, \"min_p\": 0.125, \"repeat_penalty\": 1.5, \"repeat_last_n\": -1, "
         "\"presence_penalty\": 1, \"frequency_penalty\": -1, \"min_keep\": 2, \"seed\": "
         "\"18446744073709551615\", \"ignore_eos\": true, \"cache_prompt\": false, \"logit_bias\": "
         "[[5, false], [6, 1.5], [\"a\", -2]], \"stop\": [\"x\", \"y\"], \"id_slot\": 3, "
         "\"user\": null}",
         " 400 ", "user"); /* a field of the OpenAI routes only */
    POST("/completion",
         "{\"prompt\": \"hi\", \"n_predict\": 4, \"temperature\": 0.25, \"top_k\": 3, \"top_p\": "
         "0.5, \"min_p\": 0.125, \"repeat_penalty\": 1.5, \"repeat_last_n\": -1, "
         "\"presence_penalty\": 1, \"frequency_penalty\": -1, \"min_keep\": 2, \"seed\": "
         "\"18446744073709551615\", \"ignore_eos\": true, \"cache_prompt\": false, \"logit_bias\": "
         "[[5, false], [6, 1.5], [\"a\", -2]], \"stop\": [\"x\", \"y\"], \"id_slot\": 3}",
         " 200 ", "\"seed\": \"18446744073709551615\"",
         "\"logit_bias\": [[5, false], [6, 1.5], [97, -2]]");
    fake_server_stop(&f);
    const struct request_spec *spec = &f.fake.scheduler.last;
    CHECK(spec->sampling.temperature == 0.25f && spec->sampling.top_p == 0.5f);
    CHECK(spec->sampling.min_p == 0.125f && spec->sampling.repeat_penalty == 1.5f);
    CHECK(spec->sampling.presence_penalty == 1 && spec->sampling.frequency_penalty == -1);
    CHECK_EQ(spec->sampling.top_k, 3);
    CHECK_EQ(spec->sampling.penalty_last_n, -1);
    CHECK_EQ(spec->sampling.min_keep, 2);
    CHECK_EQ(spec->sampling.n_bias, 3);
    CHECK(spec->sampling.seed == UINT64_MAX);
    CHECK(spec->sampling.ignore_eos && !spec->cache_prompt);
    CHECK_EQ(spec->n_stops, 2);
    CHECK_EQ(spec->max_tokens, 4);
}

static void long_prompts_are_tokenized_off_the_loop(void) {
    start();
    struct buffer body = {0};
    buffer_printf(&body, "{\"max_tokens\": 1, \"prompt\": \"");
    for (int i = 0; i < 5000; i++)
        buffer_append(&body, "0123456789", 10);
    buffer_append(&body, "\"}", 3);
    POST("/v1/completions", body.bytes, "\"prompt_tokens\": 50000");
    body.n = 0;
    buffer_printf(&body, "{\"n_predict\": 1, \"prompt\": [");
    for (int i = 0; i < 50000; i++)
        buffer_printf(&body, "%s104", i ? "," : "");
    buffer_append(&body, "]}", 3);
    POST("/completion", body.bytes, "\"tokens_evaluated\": 50000");
    /* A client that leaves meanwhile. */
    for (int i = 0; i < 20; i++) {
        const int fd = fake_connect(&f);
        body.n = 0;
        buffer_printf(&body, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tokenize\", "
                             "\"params\": {\"content\": \"");
        for (int k = 0; k < 5000; k++)
            buffer_append(&body, "0123456789", 10);
        buffer_append(&body, "\"}}\n", 5);
        put(fd, body.bytes);
        close(fd);
    }
    buffer_finish(&body);
    fake_server_stop(&f);
    CHECK(f.fake.offloaded >= 1);
}

static void tokens_and_text(void) {
    start();
    POST("/tokenize", "{\"content\": \"hi\"}", "{\"tokens\": [104, 105]}");
    POST("/tokenize", "{\"content\": \"\xC3\xA9\", \"with_pieces\": true}",
         "{\"id\": 195, \"piece\": [195]}");
    POST("/detokenize", "{\"tokens\": [104, 105, 33]}", "{\"content\": \"hi!\"}");
    POST("/detokenize",
         "{\"tokens\": [97,97,97,97,97,97,97,97,97,97,97,97,97,97,97,97,97,97,97,97]}",
         "{\"content\": \"aaaaaaaaaaaaaaaaaaaa\"}");
    fake_server_stop(&f);
}

CHECK_MAIN(T(a_completion_has_openai_shape), T(echo_with_logprobs_scores_the_prompt),
           T(a_chat_has_openai_shape), T(a_completion_has_llama_shape),
           T(streams_have_openai_shape), T(failures_before_and_inside_a_stream),
           T(fields_are_judged_by_name), T(accepted_fields_reach_the_scheduler),
           T(long_prompts_are_tokenized_off_the_loop), T(tokens_and_text))
