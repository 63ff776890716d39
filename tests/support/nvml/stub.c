/* A libnvidia-ml.so.1 for tests: what it answers is in the file that APPLIANCE_STUB_NVML names, read anew whenever that
 * file changes, also while a program has the library loaded. See stub.py for who writes it. One thing a line:
 *
 *   driver version=580.65 cuda=13000              of the whole driver
 *   gpu 0 uuid=GPU-a name=NVIDIA_A100 memory=...  a card; the order of lines is the order of indexes; _ is a space
 *   mig 0 1 uuid=MIG-a memory=... gi=7 ci=0       instance 1 of card 0
 *   process 0 pid=7 memory=... sm=50 gi=7         on card 0; also graphics=1, mps=1
 *   hang 0 FUNCTION                               never answers for card 0, until the line goes; * is every function
 *   error 0 FUNCTION 15                           fails for card 0
 *   lost 0                                        everything fails for card 0
 *   fail FUNCTION 18    stall FUNCTION            the same for functions of no card
 *   xid 0 79 gi=1    event 0 16384                happens once, when the line comes
 *
 * A value that is not given, or is `na`, is NOT_SUPPORTED; `=error:N` is that error. A handle is the card's number and
 * one, an instance's is 1000 + 100 x card + number. With -DOLD the symbols of newer drivers are absent.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, TIMEOUT = 10, LOST = 15, MISMATCH = 25 };
enum { LINES = 600, PAIRS = 32 };

typedef struct { char word[48], card[64], what[64], code[16]; int pairs; char key[PAIRS][24], value[PAIRS][96]; } Line;
typedef struct { int count; Line line[LINES]; } Script;
typedef void *Handle;

static Script *now;
static struct stat seen;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static Script *read_script(FILE *file) {
    Script *s = calloc(1, sizeof *s); /* the old one stays: another thread may be in it */
    char text[4096];
    while (s->count < LINES && fgets(text, sizeof text, file)) {
        Line *line = &s->line[s->count];
        char *rest = text, *word;
        int place = 0;
        while ((word = strsep(&rest, " \t\n"))) {
            char *value = strchr(word, '=');
            if (!*word) continue;
            if (value && line->pairs < PAIRS) {
                *value++ = 0;
                snprintf(line->key[line->pairs], sizeof line->key[0], "%s", word);
                snprintf(line->value[line->pairs++], sizeof line->value[0], "%s", value);
                continue;
            }
            if (place == 0) snprintf(line->word, sizeof line->word, "%s", word);
            if (place == 1) snprintf(line->card, sizeof line->card, "%s", word), snprintf(line->what, sizeof line->what, "%s", word);
            if (place == 2) snprintf(line->what, sizeof line->what, "%s", word), snprintf(line->code, sizeof line->code, "%s", word);
            if (place == 3) snprintf(line->code, sizeof line->code, "%s", word);
            place++;
        }
        if (place) s->count++;
    }
    return s;
}

static Script *script(void) {
    const char *path = getenv("APPLIANCE_STUB_NVML");
    struct stat found;
    pthread_mutex_lock(&mutex);
    if (!now) now = calloc(1, sizeof *now);
    if (path && !stat(path, &found) &&
        (found.st_ino != seen.st_ino || found.st_size != seen.st_size || found.st_mtim.tv_nsec != seen.st_mtim.tv_nsec ||
         found.st_mtim.tv_sec != seen.st_mtim.tv_sec)) {
        FILE *file = fopen(path, "re");
        if (file) now = read_script(file), seen = found, fclose(file);
    }
    Script *s = now;
    pthread_mutex_unlock(&mutex);
    return s;
}

static const char *value_of(const Line *line, const char *key) {
    for (int i = 0; line && i < line->pairs; i++)
        if (!strcmp(line->key[i], key)) return line->value[i];
    return NULL;
}

static int number(const Line *line, const char *key, uint64_t *out) {
    const char *text = value_of(line, key);
    if (!text || !strcmp(text, "na")) return UNSUPPORTED;
    if (!strncmp(text, "error:", 6)) return atoi(text + 6);
    *out = strtoull(text, NULL, 0);
    return OK;
}

static int words(const Line *line, const char *key, char *out, unsigned size) {
    const char *text = value_of(line, key);
    if (!text || !strcmp(text, "na")) return UNSUPPORTED;
    if (!strncmp(text, "error:", 6)) return atoi(text + 6);
    snprintf(out, size, "%s", text);
    for (char *c = out; *c; c++)
        if (*c == '_') *c = ' ';
    return OK;
}

static int card_of(Handle handle) {
    intptr_t h = (intptr_t)handle;
    return h >= 1000 ? (int)((h - 1000) / 100) : (int)h - 1;
}

static int slot_of(Handle handle) {
    intptr_t h = (intptr_t)handle;
    return h >= 1000 ? (int)((h - 1000) % 100) : -1;
}

static Line *find(Script *s, const char *word, int card, int slot) {
    for (int i = 0; i < s->count; i++)
        if (!strcmp(s->line[i].word, word) && atoi(s->line[i].card) == card && (slot < 0 || atoi(s->line[i].what) == slot))
            return &s->line[i];
    return NULL;
}

static Line *one(Script *s, Handle handle) {
    return slot_of(handle) < 0 ? find(s, "gpu", card_of(handle), -1) : find(s, "mig", card_of(handle), slot_of(handle));
}

static int is(const char *pattern, const char *function) { return !strcmp(pattern, "*") || !strcmp(pattern, function); }

/* What the script has against a call: waits while it hangs, else the error. Card -1: of no card. */
static int against(Script **s, int card, const char *function) {
    for (;;) {
        int hangs = 0;
        *s = script();
        for (int i = 0; i < (*s)->count; i++) {
            Line *l = &(*s)->line[i];
            int mine = card >= 0 && atoi(l->card) == card;
            if (mine && !strcmp(l->word, "lost")) return LOST;
            if (mine && !strcmp(l->word, "error") && is(l->what, function)) return atoi(l->code);
            if (card < 0 && !strcmp(l->word, "fail") && is(l->card, function)) return atoi(l->code);
            hangs |= mine && !strcmp(l->word, "hang") && is(l->what, function);
            hangs |= card < 0 && !strcmp(l->word, "stall") && is(l->card, function);
        }
        if (!hangs) return OK;
        usleep(20000);
    }
}

#define GLOBAL Script *s; int bad = against(&s, -1, __func__); if (bad) return bad
#define CARD Script *s; int bad = against(&s, card_of(handle), __func__); if (bad) return bad; \
    Line *me = one(s, handle); if (!me) return INVALID
#define NUMBER(name, type, key) int name(Handle handle, type *out) { \
    CARD; uint64_t n; bad = number(me, key, &n); if (!bad) *out = (type)n; return bad; }
#define WORDS(name, key) int name(Handle handle, char *out, unsigned size) { CARD; return words(me, key, out, size); }

int nvmlInitWithFlags(unsigned flags) { (void)flags; GLOBAL; return OK; }
int nvmlShutdown(void) { GLOBAL; return OK; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the stub"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { GLOBAL; return words(find(s, "driver", 0, -1), "version", out, size); }
static int cuda(Script *s, int *out) { uint64_t n; int bad = number(find(s, "driver", 0, -1), "cuda", &n); if (!bad) *out = (int)n; return bad; }
int nvmlSystemGetCudaDriverVersion(int *out) { GLOBAL; return cuda(s, out); }
#ifndef OLD
int nvmlSystemGetCudaDriverVersion_v2(int *out) { GLOBAL; return cuda(s, out); }
#endif

int nvmlDeviceGetCount_v2(unsigned *out) {
    GLOBAL;
    *out = 0;
    for (int i = 0; i < s->count; i++) *out += !strcmp(s->line[i].word, "gpu");
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *out) {
    GLOBAL;
    for (int i = 0; i < s->count; i++)
        if (!strcmp(s->line[i].word, "gpu") && !index--) {
            *out = (Handle)(intptr_t)(atoi(s->line[i].card) + 1);
            return against(&s, card_of(*out), __func__);
        }
    return INVALID;
}

WORDS(nvmlDeviceGetName, "name")
WORDS(nvmlDeviceGetUUID, "uuid")
WORDS(nvmlDeviceGetSerial, "serial")
NUMBER(nvmlDeviceGetMinorNumber, unsigned, "minor")
NUMBER(nvmlDeviceGetPowerUsage, unsigned, "power")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, "power_limit")
NUMBER(nvmlDeviceGetFanSpeed, unsigned, "fan")
NUMBER(nvmlDeviceGetPersistenceMode, unsigned, "persistence")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, "pcie_gen")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, "pcie_width")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, "pcie_gen_most")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, "pcie_width_most")
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, uint64_t, "reasons")
#ifndef OLD
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, uint64_t, "reasons")
#endif
NUMBER(nvmlDeviceGetMaxMigDeviceCount, unsigned, "mig_most")
NUMBER(nvmlDeviceGetGpuInstanceId, unsigned, "gi")
NUMBER(nvmlDeviceGetComputeInstanceId, unsigned, "ci")

typedef struct { char old[16]; unsigned parts[5]; char bus[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(Handle handle, Pci *out) {
    CARD;
    memset(out, 0, sizeof *out);
    return words(me, "bus", out->bus, sizeof out->bus);
}

int nvmlDeviceGetTemperature(Handle handle, int sensor, unsigned *out) {
    (void)sensor; CARD; uint64_t n; bad = number(me, "temperature", &n); if (!bad) *out = (unsigned)n; return bad;
}
#ifndef OLD
typedef struct { unsigned version; int sensor; int temperature; } Heat;
int nvmlDeviceGetTemperatureV(Handle handle, Heat *out) {
    CARD; uint64_t n; bad = number(me, "temperature", &n); if (!bad) out->temperature = (int)n; return bad;
}
#endif

int nvmlDeviceGetClockInfo(Handle handle, int type, unsigned *out) {
    CARD; uint64_t n; bad = number(me, type == 2 ? "memory_clock" : "sm_clock", &n); if (!bad) *out = (unsigned)n; return bad;
}

typedef struct { uint64_t total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Handle handle, Memory *out) {
    CARD;
    if ((bad = number(me, "memory", &out->total))) return bad;
    if (number(me, "used", &out->used)) out->used = 0;
    out->free = out->total - out->used;
    return OK;
}
#ifndef OLD
typedef struct { unsigned version; uint64_t total, reserved, free, used; } Memory2;
int nvmlDeviceGetMemoryInfo_v2(Handle handle, Memory2 *out) {
    CARD;
    if (out->version != 0x02000028) return MISMATCH;
    if ((bad = number(me, "memory", &out->total))) return bad;
    if (number(me, "used", &out->used)) out->used = 0;
    if (number(me, "reserved", &out->reserved)) out->reserved = 0;
    out->free = out->total - out->used - out->reserved;
    return OK;
}
#endif

typedef struct { unsigned gpu, memory; } Rates;
int nvmlDeviceGetUtilizationRates(Handle handle, Rates *out) {
    CARD;
    uint64_t n;
    if ((bad = number(me, "util", &n))) return bad;
    out->gpu = (unsigned)n;
    out->memory = number(me, "memory_util", &n) ? 0 : (unsigned)n;
    return OK;
}

/* energy=auto is the power since the first question. */
static int energy(Line *me, uint64_t *out) {
    static struct { double since, joules; } had[64];
    const char *text = value_of(me, "energy");
    struct timespec t;
    uint64_t power = 0;
    if (!text || strcmp(text, "auto")) return number(me, "energy", out);
    clock_gettime(CLOCK_MONOTONIC, &t);
    double at = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    int card = atoi(me->card) % 64;
    (void)number(me, "power", &power);
    if (had[card].since > 0) had[card].joules += (at - had[card].since) * (double)power / 1000;
    had[card].since = at;
    *out = (uint64_t)(had[card].joules * 1000);
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(Handle handle, uint64_t *out) {
    CARD;
    if (value_of(me, "energy_field")) return UNSUPPORTED; /* told by the field only */
    return energy(me, out);
}

int nvmlDeviceGetTotalEccErrors(Handle handle, int type, int counter, uint64_t *out) {
    (void)counter; CARD; return number(me, type ? "ecc_uncorrected" : "ecc_corrected", out);
}

int nvmlDeviceGetRemappedRows(Handle handle, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    CARD;
    uint64_t p, f;
    *corrected = *uncorrected = 0;
    if ((bad = number(me, "remap_pending", &p)) || (bad = number(me, "remap_failed", &f))) return bad;
    *pending = (unsigned)p, *failed = (unsigned)f;
    return OK;
}

typedef struct { unsigned id, scope; int64_t at, took; int type, result; union { double d; uint64_t u; unsigned i; } value; } Field;
int nvmlDeviceGetFieldValues(Handle handle, int count, Field *fields) {
    CARD;
    for (int i = 0; i < count; i++) {
        uint64_t n = 0;
        const char *key = fields[i].id == 230 ? "recovery" : fields[i].id == 83 ? "energy_field" : "";
        fields[i].result = number(me, key, &n);
        fields[i].type = fields[i].id == 83 ? 3 : 1;
        fields[i].value.u = n;
    }
    return OK;
}

typedef struct { unsigned pid; uint64_t memory; unsigned gi, ci; } Process;
static int processes(Script *s, Handle handle, const char *kind, unsigned *count, Process *out) {
    unsigned room = *count, found = 0;
    uint64_t gi = 0, flag, its;
    Line *me = one(s, handle);
    if (value_of(me, "processes")) return number(me, "processes", &flag);
    for (int i = 0; i < s->count; i++) {
        Line *l = &s->line[i];
        if (strcmp(l->word, "process") || atoi(l->card) != card_of(handle)) continue;
        if (slot_of(handle) >= 0 && (number(me, "gi", &gi) || number(l, "gi", &its) || its != gi)) continue;
        const char *is_kind = !number(l, "graphics", &flag) && flag ? "graphics" : !number(l, "mps", &flag) && flag ? "mps" : "compute";
        if (strcmp(kind, is_kind)) continue;
        if (out && found < room) {
            uint64_t n;
            memset(&out[found], 0xff, sizeof out[found]);
            out[found].pid = number(l, "pid", &n) ? 0 : (unsigned)n;
            out[found].memory = number(l, "memory", &n) ? UINT64_MAX : n;
            if (!number(l, "gi", &n)) out[found].gi = (unsigned)n;
            if (!number(l, "ci", &n)) out[found].ci = (unsigned)n;
        }
        found++;
    }
    *count = found;
    return found > room ? SMALL : OK;
}
#define PROCESSES(name, kind) int name(Handle handle, unsigned *count, Process *out) { CARD; return processes(s, handle, kind, count, out); }
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, "mps")
#ifndef OLD
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps")
#endif

typedef struct { unsigned pid; uint64_t at; unsigned sm, memory, encoder, decoder; } Busy;
int nvmlDeviceGetProcessUtilization(Handle handle, Busy *out, unsigned *count, uint64_t since) {
    CARD;
    unsigned room = *count, found = 0;
    uint64_t n;
    struct timespec t;
    (void)since;
    if (slot_of(handle) >= 0 || find(s, "mig", card_of(handle), -1)) return UNSUPPORTED;
    clock_gettime(CLOCK_REALTIME, &t);
    for (int i = 0; i < s->count; i++) {
        Line *l = &s->line[i];
        if (strcmp(l->word, "process") || atoi(l->card) != card_of(handle) || number(l, "sm", &n) || !n) continue;
        if (out && found < room) {
            memset(&out[found], 0, sizeof out[found]);
            out[found].sm = (unsigned)n;
            out[found].at = (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
            out[found].pid = number(l, "pid", &n) ? 0 : (unsigned)n;
        }
        found++;
    }
    *count = found;
    /* As drivers do: a program that came between the two questions makes the second fail. */
    if (out && !number(find(s, "gpu", card_of(handle), -1), "race", &n)) {
        static int raced;
        if (!raced++) return SMALL;
    }
    return !found ? NOT_FOUND : found > room ? SMALL : OK;
}

int nvmlDeviceGetMigMode(Handle handle, unsigned *current, unsigned *pending) {
    CARD;
    uint64_t n;
    if ((bad = number(me, "mig", &n))) return bad;
    *current = *pending = (unsigned)n;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Handle handle, unsigned index, Handle *out) {
    CARD;
    if (!find(s, "mig", card_of(handle), (int)index)) return NOT_FOUND;
    *out = (Handle)(intptr_t)(1000 + 100 * card_of(handle) + (int)index);
    return OK;
}

typedef struct { unsigned parts[6], slices, compute_slices; uint64_t memory_mb; } Attributes;
int nvmlDeviceGetAttributes_v2(Handle handle, Attributes *out) {
    CARD;
    uint64_t n;
    if ((bad = number(me, "slices", &n))) return bad;
    memset(out, 0, sizeof *out);
    out->slices = out->compute_slices = (unsigned)n;
    if (!number(me, "memory", &n)) out->memory_mb = n >> 20;
    return OK;
}

/* Events: each line of them happens once in the life of a process that has registered. */
typedef struct { Handle device; uint64_t type, data; unsigned gi, ci; } Event;
static uint64_t registered[64];
int nvmlEventSetCreate(Handle *out) { GLOBAL; *out = (Handle)1; return OK; }
int nvmlEventSetFree(Handle set) { (void)set; GLOBAL; return OK; }
int nvmlDeviceGetSupportedEventTypes(Handle handle, uint64_t *out) {
    CARD; if (number(me, "events", out)) *out = 0xC008; return OK;
}
int nvmlDeviceRegisterEvents(Handle handle, uint64_t types, Handle set) {
    (void)set; CARD; registered[card_of(handle) % 64] |= types; return OK;
}
int nvmlEventSetWait_v2(Handle set, Event *out, unsigned patience) {
    static int happened;
    (void)set;
    for (unsigned waited = 0; waited <= patience; waited += 10, usleep(10000)) {
        GLOBAL;
        int count = 0;
        for (int i = 0; i < s->count; i++) {
            Line *l = &s->line[i];
            int xid = !strcmp(l->word, "xid");
            if ((!xid && strcmp(l->word, "event")) || ++count <= happened) continue;
            happened = count;
            uint64_t n, type = xid ? 8 : strtoull(l->what, NULL, 0);
            if (!(registered[atoi(l->card) % 64] & type)) continue;
            out->device = (Handle)(intptr_t)(atoi(l->card) + 1);
            out->type = type;
            out->data = xid ? strtoull(l->what, NULL, 0) : 0;
            out->gi = number(l, "gi", &n) ? UINT32_MAX : (unsigned)n;
            out->ci = number(l, "ci", &n) ? UINT32_MAX : (unsigned)n;
            return OK;
        }
    }
    return TIMEOUT;
}
