/* Eclipse Paho's C library (its MQTTClient interface) against the broker: checks HOST PORT.
 * Prints "libpaho-mqtt VERSION: N passed, M failed". Each check runs in a process of its own, which ends at its first
 * failure or when its time is up; so the library starts afresh each time, and a check may let a client vanish. */

#include <MQTTClient.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 30, CHECK_S = 120, MANY = 500, LARGE_BYTES = 1 << 20 };

static const char *uri;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    puts("");
    fflush(stdout);
    _exit(1);
}

#define EXPECT(condition) \
    do { \
        if (!(condition)) fail("line %d: %s", __LINE__, #condition); \
    } while (0)

/* A name in the topics of this check, which is freed by the end of the process. */
static char *name(const char *format, ...) {
    char *text = malloc(200);
    va_list arguments;
    EXPECT(text != NULL);
    va_start(arguments, format);
    vsnprintf(text, 200, format, arguments);
    va_end(arguments);
    return text;
}

struct message {
    struct message *next;
    char *topic;
    MQTTClient_message *content;
};

struct client {
    MQTTClient handle;
    int version;
    bool session_present;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct message *first, *last;
    bool lost;
};

static int arrived(void *context, char *topic, int topic_length, MQTTClient_message *content) {
    struct client *client = context;
    struct message *message = calloc(1, sizeof *message);
    (void)topic_length;
    EXPECT(message != NULL);
    message->topic = topic;
    message->content = content;
    pthread_mutex_lock(&client->lock);
    if (client->last) client->last->next = message; else client->first = message;
    client->last = message;
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
    return 1;
}

static void lost(void *context, char *cause) {
    struct client *client = context;
    (void)cause;
    pthread_mutex_lock(&client->lock);
    client->lost = true;
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

static void disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason) {
    (void)properties;
    (void)reason;
    lost(context, NULL);
}

struct options {
    bool persistent;
    const char *will_topic, *will_payload;
};

static struct client *connect_with(int version, const char *id, struct options wanted) {
    struct client *client = calloc(1, sizeof *client);
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions options5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    pthread_condattr_t clock;

    EXPECT(client != NULL);
    client->version = version;
    pthread_mutex_init(&client->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&client->changed, &clock);

    create.MQTTVersion = version;
    EXPECT(MQTTClient_createWithOptions(&client->handle, uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL, &create) == 0);
    EXPECT(MQTTClient_setCallbacks(client->handle, client, lost, arrived, NULL) == 0);
    if (version == MQTTVERSION_5) {
        EXPECT(MQTTClient_setDisconnected(client->handle, client, disconnected) == 0);
        options = options5;
        options.cleanstart = !wanted.persistent;
    } else {
        options.MQTTVersion = version;
        options.cleansession = !wanted.persistent;
    }
    options.connectTimeout = PATIENCE_S;
    /* It waits for each acknowledgement unless it is told that more may be in flight. */
    options.reliable = 0;
    options.maxInflightMessages = 100;
    if (wanted.will_topic) {
        will.topicName = wanted.will_topic;
        will.message = wanted.will_payload;
        will.qos = 1;
        options.will = &will;
    }
    if (version == MQTTVERSION_5) {
        MQTTProperties properties = MQTTProperties_initializer;
        MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL};
        expiry.value.integer4 = wanted.persistent ? 600 : 0;
        EXPECT(MQTTProperties_add(&properties, &expiry) == 0);
        MQTTResponse response = MQTTClient_connect5(client->handle, &options, &properties, NULL);
        if (response.reasonCode != MQTTREASONCODE_SUCCESS) fail("cannot connect: %d", response.reasonCode);
        MQTTResponse_free(response);
        MQTTProperties_free(&properties);
    } else {
        int code = MQTTClient_connect(client->handle, &options);
        if (code != MQTTCLIENT_SUCCESS) fail("cannot connect: %d", code);
    }
    client->session_present = options.returned.sessionPresent;
    return client;
}

static struct client *connect_clean(int version, const char *id) {
    return connect_with(version, id, (struct options){0});
}

static void disconnect(struct client *client) {
    int code = client->version == MQTTVERSION_5
        ? MQTTClient_disconnect5(client->handle, PATIENCE_S * 1000, MQTTREASONCODE_NORMAL_DISCONNECTION, NULL)
        : MQTTClient_disconnect(client->handle, PATIENCE_S * 1000);
    if (code != MQTTCLIENT_SUCCESS) fail("cannot disconnect: %d", code);
    MQTTClient_destroy(&client->handle);
}

static void subscribe(struct client *client, const char *filter, int qos) {
    if (client->version == MQTTVERSION_5) {
        MQTTResponse response = MQTTClient_subscribe5(client->handle, filter, qos, NULL, NULL);
        if ((int)response.reasonCode != qos) fail("granted %d of %d", response.reasonCode, qos);
        MQTTResponse_free(response);
    } else {
        int code = MQTTClient_subscribe(client->handle, filter, qos);
        if (code != MQTTCLIENT_SUCCESS) fail("cannot subscribe: %d", code);
    }
}

static void unsubscribe(struct client *client, const char *filter) {
    if (client->version == MQTTVERSION_5) {
        MQTTResponse response = MQTTClient_unsubscribe5(client->handle, filter, NULL);
        EXPECT(response.reasonCode == MQTTREASONCODE_SUCCESS);
        MQTTResponse_free(response);
    } else {
        EXPECT(MQTTClient_unsubscribe(client->handle, filter) == MQTTCLIENT_SUCCESS);
    }
}

/* Hands a message to the library; `await_taken` waits until the broker has taken it over. */
static int send_with(struct client *client, const char *topic, int qos, bool retained, int length, const void *payload,
                     MQTTProperties *properties) {
    int token = 0;
    if (client->version == MQTTVERSION_5) {
        MQTTResponse response =
            MQTTClient_publish5(client->handle, topic, length, payload, qos, retained, properties, &token);
        if (response.reasonCode != MQTTREASONCODE_SUCCESS) fail("cannot publish: %d", response.reasonCode);
        MQTTResponse_free(response);
    } else {
        int code = MQTTClient_publish(client->handle, topic, length, payload, qos, retained, &token);
        if (code != MQTTCLIENT_SUCCESS) fail("cannot publish: %d", code);
    }
    return token;
}

static void await_taken(struct client *client, int token) {
    int code = MQTTClient_waitForCompletion(client->handle, token, PATIENCE_S * 1000UL);
    if (code != MQTTCLIENT_SUCCESS) fail("not acknowledged: %d", code);
}

static void publish(struct client *client, const char *topic, int qos, bool retained, const char *text) {
    int token = send_with(client, topic, qos, retained, (int)strlen(text), text, NULL);
    if (qos > 0) await_taken(client, token);
}

/* Publishes the numbers from `first` to before `end`, all before it waits for the broker to take them over. */
static void publish_numbers(struct client *client, const char *topic, int qos, int first, int end) {
    static int tokens[MANY];
    EXPECT(end - first <= MANY);
    for (int number = first; number < end; number++) {
        char *text = name("%d", number);
        tokens[number - first] = send_with(client, topic, qos, false, (int)strlen(text), text, NULL);
    }
    for (int number = first; number < end; number++) await_taken(client, tokens[number - first]);
}

/* Waits for a message, or for the end of the connection where that is what is wanted. */
static struct message *await(struct client *client, bool wants_end) {
    struct timespec end;
    struct message *message = NULL;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&client->lock);
    while (wants_end ? !client->lost : client->first == NULL) {
        if (pthread_cond_timedwait(&client->changed, &client->lock, &end) == ETIMEDOUT) {
            fail("no %s within %d s", wants_end ? "end of the connection" : "message", PATIENCE_S);
        }
    }
    if (!wants_end) {
        message = client->first;
        client->first = message->next;
        if (client->first == NULL) client->last = NULL;
    }
    pthread_mutex_unlock(&client->lock);
    return message;
}

static void release(struct message *message) {
    MQTTClient_freeMessage(&message->content);
    MQTTClient_free(message->topic);
    free(message);
}

static bool says(const struct message *message, const char *text) {
    size_t length = strlen(text);
    return (size_t)message->content->payloadlen == length && memcmp(message->content->payload, text, length) == 0;
}

/* The next message: its topic (where one is given), text, QoS and flag. */
static void await_message(struct client *client, const char *topic, const char *text, int qos, bool retained) {
    struct message *message = await(client, false);
    if ((topic && strcmp(message->topic, topic) != 0) || !says(message, text) || message->content->qos != qos ||
        (bool)message->content->retained != retained) {
        fail("expected \"%s\" at QoS %d, retained %d, got \"%.*s\" of %s at QoS %d, retained %d", text, qos, retained,
             message->content->payloadlen > 60 ? 60 : message->content->payloadlen, (char *)message->content->payload,
             message->topic, message->content->qos, message->content->retained);
    }
    release(message);
}

static void await_text(struct client *client, const char *text, int qos) {
    await_message(client, NULL, text, qos, false);
}

static void check_qos(int version, const char *scope) {
    struct client *subscriber = connect_clean(version, name("%s-s", scope));
    struct client *publisher = connect_clean(version, name("%s-p", scope));
    for (int level = 0; level <= 2; level++) {
        char *topic = name("%s/%d", scope, level);
        subscribe(subscriber, topic, level);
        for (int sent = 0; sent <= 2; sent++) {
            char *text = name("Hello %d", sent);
            publish(publisher, topic, sent, false, text);
            await_message(subscriber, topic, text, sent < level ? sent : level, false);
        }
    }
    unsubscribe(subscriber, name("%s/0", scope));
    publish(publisher, name("%s/0", scope), 1, false, "unheard");
    publish(publisher, name("%s/1", scope), 1, false, "end");
    await_text(subscriber, "end", 1);
    disconnect(subscriber);
    disconnect(publisher);
}

static void check_retained(int version, const char *scope) {
    struct client *publisher = connect_clean(version, name("%s-p", scope));
    publish(publisher, scope, 1, true, "first");
    publish(publisher, scope, 1, true, "second");
    for (int round = 0; round < 2; round++) {
        struct client *newcomer = connect_clean(version, name("%s-n", scope));
        subscribe(newcomer, scope, 1);
        if (round == 0) await_message(newcomer, scope, "second", 1, true);
        publish(publisher, scope, 1, false, "live");
        await_message(newcomer, scope, "live", 1, false);
        disconnect(newcomer);
        publish(publisher, scope, 1, true, "");
    }
    disconnect(publisher);
}

static void check_will(int version, const char *scope) {
    int go[2];
    int status;
    EXPECT(pipe(go) == 0);
    /* It must be there before the library has threads here, and dies without a farewell when it is connected. */
    pid_t mortal = fork();
    EXPECT(mortal >= 0);
    if (mortal == 0) {
        char byte;
        close(go[1]);
        alarm(CHECK_S);
        EXPECT(read(go[0], &byte, 1) == 1);
        connect_with(version, name("%s-m", scope), (struct options){.will_topic = scope, .will_payload = "gone"});
        _exit(0);
    }
    close(go[0]);
    struct client *watcher = connect_clean(version, name("%s-w", scope));
    subscribe(watcher, scope, 1);
    /* A client that says goodbye has no will to execute. */
    struct options options = {.will_topic = scope, .will_payload = "wrong"};
    disconnect(connect_with(version, name("%s-g", scope), options));
    EXPECT(write(go[1], "x", 1) == 1);
    EXPECT(waitpid(mortal, &status, 0) == mortal && status == 0);
    await_text(watcher, "gone", 1);
    disconnect(watcher);
}

static void check_wildcards(int version, const char *scope) {
    static const char *const topics[] = {"a/y", "a/x", "tree", "tree/b/c", "end/x"};
    struct client *client = connect_clean(version, scope);
    subscribe(client, name("%s/+/x", scope), 1);
    subscribe(client, name("%s/tree/#", scope), 1);
    for (int number = 0; number < 5; number++) {
        publish(client, name("%s/%s", scope, topics[number]), 1, false, topics[number]);
    }
    for (int number = 1; number < 5; number++) {
        await_message(client, name("%s/%s", scope, topics[number]), topics[number], 1, false);
    }
    disconnect(client);
}

static void check_persistent(int version, const char *scope) {
    const struct options persistent = {.persistent = true};
    char *id = name("%s-s", scope);
    /* Whatever an earlier run has left ends here. */
    disconnect(connect_clean(version, id));
    struct client *sleeper = connect_with(version, id, persistent);
    EXPECT(!sleeper->session_present);
    subscribe(sleeper, scope, 2);
    disconnect(sleeper);
    struct client *publisher = connect_clean(version, name("%s-p", scope));
    publish_numbers(publisher, scope, 1, 0, 100);
    publish_numbers(publisher, scope, 2, 100, 200);
    sleeper = connect_with(version, id, persistent);
    /* The library tells of the flag in version 3.1.1 alone; that the messages come shows the session as well. */
    EXPECT(sleeper->session_present || version == MQTTVERSION_5);
    for (int number = 0; number < 200; number++) await_text(sleeper, name("%d", number), 1 + number / 100);
    publish(publisher, scope, 2, false, "live");
    await_text(sleeper, "live", 2);
    disconnect(sleeper);
    disconnect(publisher);
    struct client *clean = connect_clean(version, id);
    EXPECT(!clean->session_present);
    disconnect(clean);
}

static void check_large(int version, const char *scope) {
    struct client *subscriber = connect_clean(version, name("%s-s", scope));
    struct client *publisher = connect_clean(version, name("%s-p", scope));
    unsigned char *payload = malloc(LARGE_BYTES);
    EXPECT(payload != NULL);
    subscribe(subscriber, scope, 2);
    for (int qos = 0; qos <= 2; qos++) {
        for (int at = 0; at < LARGE_BYTES; at++) payload[at] = (unsigned char)(at * 31 + at / 251 + qos);
        int token = send_with(publisher, scope, qos, false, LARGE_BYTES, payload, NULL);
        if (qos > 0) await_taken(publisher, token);
        struct message *message = await(subscriber, false);
        EXPECT(message->content->payloadlen == LARGE_BYTES);
        EXPECT(memcmp(message->content->payload, payload, LARGE_BYTES) == 0);
        release(message);
    }
    disconnect(subscriber);
    disconnect(publisher);
}

static void check_many_in_flight(int version, const char *scope) {
    struct client *subscriber = connect_clean(version, name("%s-s", scope));
    struct client *publisher = connect_clean(version, name("%s-p", scope));
    subscribe(subscriber, scope, 2);
    for (int qos = 1; qos <= 2; qos++) {
        publish_numbers(publisher, scope, qos, 0, MANY);
        for (int number = 0; number < MANY; number++) await_text(subscriber, name("%d", number), qos);
    }
    /* Had any come twice, it would come before this one. */
    publish(publisher, scope, 1, false, "end");
    await_text(subscriber, "end", 1);
    disconnect(subscriber);
    disconnect(publisher);
}

static void check_take_over(int version, const char *scope) {
    struct client *old = connect_clean(version, scope);
    struct client *new = connect_clean(version, scope);
    await(old, true);
    subscribe(new, scope, 1);
    publish(new, scope, 1, false, "mine");
    await_text(new, "mine", 1);
    disconnect(new);
}

static void check_shared(int version, const char *scope) {
    struct client *members[3];
    int seen[90] = {0};
    for (int member = 0; member < 3; member++) {
        members[member] = connect_clean(version, name("%s-%d", scope, member));
        subscribe(members[member], name("$share/group/%s", scope), 1);
        subscribe(members[member], name("%s/end", scope), 1);
    }
    struct client *publisher = connect_clean(version, name("%s-p", scope));
    publish_numbers(publisher, scope, 1, 0, 90);
    publish(publisher, name("%s/end", scope), 1, false, "end");
    for (int member = 0; member < 3; member++) {
        int count = 0;
        for (bool ended = false; !ended;) {
            struct message *message = await(members[member], false);
            ended = says(message, "end");
            if (!ended) {
                int number = atoi(name("%.*s", message->content->payloadlen, (char *)message->content->payload));
                EXPECT(number >= 0 && number < 90);
                seen[number]++;
                count++;
            }
            release(message);
        }
        if (count < 15 || count > 45) fail("not even: member %d has %d of 90", member, count);
        disconnect(members[member]);
    }
    for (int number = 0; number < 90; number++) {
        if (seen[number] != 1) fail("message %d came %d times", number, seen[number]);
    }
    disconnect(publisher);
}

static void add_text(MQTTProperties *properties, enum MQTTPropertyCodes code, const char *data, const char *value) {
    MQTTProperty property = {.identifier = code};
    property.value.data = (MQTTLenString){(int)strlen(data), (char *)data};
    if (value) property.value.value = (MQTTLenString){(int)strlen(value), (char *)value};
    EXPECT(MQTTProperties_add(properties, &property) == 0);
}

static bool is_text(MQTTLenString text, const char *expected) {
    return (size_t)text.len == strlen(expected) && memcmp(text.data, expected, strlen(expected)) == 0;
}

static void check_properties(int version, const char *scope) {
    static const char *const pairs[][2] = {{"a", "1"}, {"b", "2"}, {"a", "3"}};
    struct client *client = connect_clean(version, scope);
    MQTTProperties sent = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL};
    expiry.value.integer4 = 60;
    EXPECT(MQTTProperties_add(&sent, &expiry) == 0);
    add_text(&sent, MQTTPROPERTY_CODE_CONTENT_TYPE, "text/plain", NULL);
    add_text(&sent, MQTTPROPERTY_CODE_RESPONSE_TOPIC, "answer/here", NULL);
    add_text(&sent, MQTTPROPERTY_CODE_CORRELATION_DATA, "0815", NULL);
    for (int pair = 0; pair < 3; pair++) {
        add_text(&sent, MQTTPROPERTY_CODE_USER_PROPERTY, pairs[pair][0], pairs[pair][1]);
    }
    subscribe(client, scope, 1);
    await_taken(client, send_with(client, scope, 1, false, 1, "x", &sent));
    struct message *message = await(client, false);
    MQTTProperties *got = &message->content->properties;
    int left_s = MQTTProperties_getNumericValue(got, MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL);
    EXPECT(left_s >= 30 && left_s <= 60);
    EXPECT(is_text(MQTTProperties_getProperty(got, MQTTPROPERTY_CODE_CONTENT_TYPE)->value.data, "text/plain"));
    EXPECT(is_text(MQTTProperties_getProperty(got, MQTTPROPERTY_CODE_RESPONSE_TOPIC)->value.data, "answer/here"));
    EXPECT(is_text(MQTTProperties_getProperty(got, MQTTPROPERTY_CODE_CORRELATION_DATA)->value.data, "0815"));
    EXPECT(MQTTProperties_propertyCount(got, MQTTPROPERTY_CODE_USER_PROPERTY) == 3);
    for (int pair = 0; pair < 3; pair++) {
        MQTTProperty *property = MQTTProperties_getPropertyAt(got, MQTTPROPERTY_CODE_USER_PROPERTY, pair);
        EXPECT(is_text(property->value.data, pairs[pair][0]) && is_text(property->value.value, pairs[pair][1]));
    }
    release(message);
    MQTTProperties_free(&sent);
    disconnect(client);
}

static const struct check {
    const char *name;
    void (*run)(int version, const char *scope);
    bool only_5;
} checks[] = {
    {"qos", check_qos, false},
    {"retained", check_retained, false},
    {"will", check_will, false},
    {"wildcards", check_wildcards, false},
    {"persistent", check_persistent, false},
    {"large", check_large, false},
    {"many_in_flight", check_many_in_flight, false},
    {"take_over", check_take_over, false},
    {"shared", check_shared, true},
    {"properties", check_properties, true},
};

static const char *release_of_library(void) {
    for (MQTTClient_nameValue *entry = MQTTClient_getVersionInfo(); entry->name; entry++) {
        if (strcmp(entry->name, "Version") == 0) return entry->value;
    }
    return "unknown";
}

int main(int argc, char **argv) {
    static const struct { int number; const char *name; } versions[] = {{MQTTVERSION_3_1_1, "3.1.1"}, {MQTTVERSION_5, "5.0"}};
    int passed = 0, failed = 0;
    if (argc != 3) {
        fputs("usage: checks HOST PORT\n", stderr);
        return 2;
    }
    uri = name("tcp://%s:%s", argv[1], argv[2]);
    for (size_t version = 0; version < sizeof versions / sizeof *versions; version++) {
        for (size_t at = 0; at < sizeof checks / sizeof *checks; at++) {
            int status = 0;
            if (checks[at].only_5 && versions[version].number != MQTTVERSION_5) continue;
            pid_t child = fork();
            if (child == 0) {
                alarm(CHECK_S);
                checks[at].run(versions[version].number, name("pahoc/%s/%s", versions[version].name, checks[at].name));
                fflush(stdout);
                _exit(0);
            }
            if (child > 0 && waitpid(child, &status, 0) == child && status == 0) {
                passed++;
            } else {
                failed++;
                printf("FAILED %s %s%s\n", checks[at].name, versions[version].name,
                       WIFSIGNALED(status) ? ": its time was up, or it crashed" : "");
                fflush(stdout);
            }
        }
    }
    printf("libpaho-mqtt %s: %d passed, %d failed\n", release_of_library(), passed, failed);
    return failed > 0 || passed == 0;
}
