/*
 * Reads the cases of handgrad's conformance kit, and checks a kernel's results against them.
 * C99, and C++ too (so that nvcc takes it); needs nothing but libc and libm. As a program:
 *
 *     cc -O2 -o kit kit.c -lm
 *     ./kit layer_norm.plain.safetensors mine.safetensors [float64|float32|float16|bfloat16]
 *
 * compares what your program wrote, any of the case's outputs/, activations/, cotangents/ and gradients/, as F64, F32,
 * F16 or BF16. Status 0: all within their envelopes; 1: some are not; 2: something cannot be used.
 * Or inside your program, which then needs no safetensors of its own:
 *
 *     #define KIT_NO_MAIN
 *     #include "kit.c"
 *
 *     int main(int argc, char **argv)
 *     {
 *         kit_file *file = argc > 1 ? kit_open(argv[1]) : NULL;
 *         if (!file) return 2;
 *         const kit_tensor *t = kit_find(file, "inputs/x"); // (B, T, C)
 *         size_t C = t->shape[t->rank - 1], rows = t->count / C;
 *         float *x = kit_floats(file, "inputs/x"), *dy = kit_floats(file, "cotangents/y");
 *         float *gamma = kit_floats(file, "inputs/gamma"), *beta = kit_floats(file, "inputs/beta");
 *         float *y = malloc(t->count * sizeof *y), *dx = malloc(t->count * sizeof *dx);
 *         float *dgamma = malloc(C * sizeof *dgamma), *dbeta = malloc(C * sizeof *dbeta);
 *         layer_norm(x, gamma, beta, y, rows, C);
 *         layer_norm_backward(dy, x, gamma, dx, dgamma, dbeta, rows, C);
 *         int right = kit_check_floats(file, "outputs/y", y, KIT_FLOAT32);
 *         right &= kit_check_floats(file, "gradients/x", dx, KIT_FLOAT32);
 *         right &= kit_check_floats(file, "gradients/gamma", dgamma, KIT_FLOAT32);
 *         right &= kit_check_floats(file, "gradients/beta", dbeta, KIT_FLOAT32);
 *         return right ? 0 : 1;
 *     }
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIT_AXES 8 /* the most that a tensor may have */

/* What your kernel computes in: the envelope that its results must stay in. */
typedef enum { KIT_FLOAT64, KIT_FLOAT32, KIT_FLOAT16, KIT_BFLOAT16 } kit_precision;

typedef struct {
    const char *name;
    int dtype, rank;
    uint64_t shape[KIT_AXES];
    size_t count; /* of its values */
    const unsigned char *data;
} kit_tensor;

typedef struct {
    char *path;
    unsigned char *bytes;
    kit_tensor *tensors; /* in the header's order */
    size_t count;
} kit_file;

/* What cannot be had (NULL) or compared (0) is said in one line on stderr; but for kit_find, which is silent. */
kit_file *kit_open(const char *path);
void kit_close(kit_file *file);
const kit_tensor *kit_find(const kit_file *file, const char *name);
double *kit_values(const kit_file *file, const char *name); /* of any dtype; yours to free, as are the next */
float *kit_floats(const kit_file *file, const char *name);
/* max |mine - reference| / max |reference|; infinite where anything is not finite. Where the reference is all zero: 0
 * if mine is, else infinite. */
double kit_error(const double *mine, const double *reference, size_t count);
/* Prints the tensor's line, and returns whether mine, which has as many values as the case's, is within the envelope. */
int kit_check(const kit_file *file, const char *name, const double *mine, kit_precision precision);
int kit_check_floats(const kit_file *file, const char *name, const float *mine, kit_precision precision);

enum { KIT_F64, KIT_F32, KIT_F16, KIT_BF16, KIT_I64, KIT_DTYPES };
static const char *const kit_dtype_names[KIT_DTYPES] = {"F64", "F32", "F16", "BF16", "I64"};
static const unsigned kit_dtype_bytes[KIT_DTYPES] = {8, 4, 2, 2, 8};

static void kit_complain(const kit_file *file, const char *name, const char *what)
{
    fprintf(stderr, "%s: %s%s%s\n", file->path, name ? name : "", name ? ": " : "", what);
}

/* The header is JSON: these take one thing each, after any white space, and return 0 (NULL, -1) where it is not there. */
typedef struct { unsigned char *at, *end; } kit_cursor;

static void kit_space(kit_cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) c->at++;
}

static int kit_take(kit_cursor *c, char wanted)
{
    kit_space(c);
    if (c->at == c->end || *c->at != wanted) return 0;
    c->at++;
    return 1;
}

static const char *kit_string(kit_cursor *c) /* terminated where it lies; of escapes, only \" \\ \/ are resolved */
{
    if (!kit_take(c, '"')) return NULL;
    unsigned char *begin = c->at, *to = begin;
    while (c->at < c->end && *c->at != '"') {
        if (*c->at == '\\' && c->end - c->at > 1) {
            if (c->at[1] != '"' && c->at[1] != '\\' && c->at[1] != '/') *to++ = '\\';
            c->at++;
        }
        if (*c->at < ' ') return NULL; /* so that a message is one line */
        *to++ = *c->at++;
    }
    if (!kit_take(c, '"')) return NULL;
    *to = '\0';
    return (const char *)begin;
}

static int kit_numbers(kit_cursor *c, uint64_t *numbers, int most) /* [2, 3]: how many there are */
{
    int count = 0;
    if (!kit_take(c, '[')) return -1;
    if (kit_take(c, ']')) return 0;
    do {
        uint64_t number = 0;
        kit_space(c);
        if (count == most || c->at == c->end || *c->at < '0' || *c->at > '9') return -1;
        for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
            unsigned digit = *c->at - '0';
            if (number > (UINT64_MAX - digit) / 10) return -1;
            number = 10 * number + digit;
        }
        numbers[count++] = number;
    } while (kit_take(c, ','));
    return kit_take(c, ']') ? count : -1;
}

/* The tensor that the header describes here; returns what is wrong with it, or NULL. */
static const char *kit_describe(kit_cursor *c, kit_tensor *t, uint64_t *size)
{
    uint64_t offsets[2], body = *size, count = 1;
    int ends = 0;
    t->dtype = t->rank = -1;
    if (!kit_take(c, '{')) return "is not described by {...}";
    do {
        const char *key = kit_string(c);
        if (!key || !kit_take(c, ':')) return "its description is not JSON";
        if (!strcmp(key, "dtype")) {
            const char *dtype = kit_string(c);
            for (t->dtype = 0; dtype && t->dtype < KIT_DTYPES; t->dtype++)
                if (!strcmp(dtype, kit_dtype_names[t->dtype])) break;
            if (!dtype || t->dtype == KIT_DTYPES) return "its dtype is not F64, F32, F16, BF16 or I64";
        } else if (!strcmp(key, "shape")) {
            if ((t->rank = kit_numbers(c, t->shape, KIT_AXES)) < 0) return "its shape is not up to 8 whole numbers";
        } else if (!strcmp(key, "data_offsets")) {
            if ((ends = kit_numbers(c, offsets, 2)) != 2) return "its data_offsets are not two whole numbers";
        } else return "is described by more than dtype, shape and data_offsets";
    } while (kit_take(c, ','));
    if (!kit_take(c, '}')) return "its description is not JSON";
    if (t->dtype < 0 || t->rank < 0 || !ends) return "lacks a dtype, a shape or data_offsets";
    if (offsets[0] > offsets[1] || offsets[1] > body) return "its data_offsets are outside the file, which may be cut";
    *size = offsets[1] - offsets[0];
    for (int axis = 0; axis < t->rank; axis++) {
        if (t->shape[axis] && count > UINT64_MAX / t->shape[axis]) return "its shape is too large";
        count *= t->shape[axis];
    }
    if (*size % kit_dtype_bytes[t->dtype] || count != *size / kit_dtype_bytes[t->dtype])
        return "its shape does not fit its data_offsets";
    t->count = (size_t)count;
    t->data = c->end + offsets[0]; /* the data begin where the header ends */
    return NULL;
}

static const char *kit_read(kit_file *file, size_t *size) /* all bytes; returns what went wrong, or NULL */
{
    size_t room = 0, count = 1;
    errno = 0;
    FILE *stream = fopen(file->path, "rb");
    if (!stream) return strerror(errno);
    for (*size = 0; count; *size += count) {
        if (*size == room) {
            unsigned char *larger = (unsigned char *)realloc(file->bytes, room = 2 * room + 4096);
            if (!larger) break;
            file->bytes = larger;
        }
        count = fread(file->bytes + *size, 1, room - *size, stream);
    }
    const char *what = count ? "does not fit into memory" : ferror(stream) ? strerror(errno) : NULL;
    fclose(stream);
    return what;
}

static const char *kit_parse(kit_file *file, const char **name) /* returns what is wrong with the tensor of that name */
{
    size_t size = 0, room = 0, held = 0;
    uint64_t header = 0;
    const char *what = kit_read(file, &size);
    if (what) return what;
    if (size < 8) return "is not a safetensors file, or is cut: it has fewer than 8 bytes";
    for (int byte = 8; byte--;) header = header << 8 | file->bytes[byte];
    if (header > size - 8) return "is not a safetensors file, or is cut: its header would be larger than the file";
    kit_cursor c = {file->bytes + 8, file->bytes + 8 + header};
    size -= 8 + (size_t)header;
    if (!kit_take(&c, '{')) return "is not a safetensors file: its header does not begin with {";
    if (!kit_take(&c, '}')) {
        do {
            if (!(*name = kit_string(&c)) || !kit_take(&c, ':')) return "the header is not JSON";
            if (!strcmp(*name, "__metadata__")) {
                if (!kit_take(&c, '{')) return "is not a {...} of strings";
                if (kit_take(&c, '}')) continue;
                do
                    if (!kit_string(&c) || !kit_take(&c, ':') || !kit_string(&c)) return "is not a {...} of strings";
                while (kit_take(&c, ','));
                if (!kit_take(&c, '}')) return "is not a {...} of strings";
                continue;
            }
            if (file->count == room) {
                kit_tensor *more = (kit_tensor *)realloc(file->tensors, (room = 2 * room + 16) * sizeof *more);
                if (!more) return "does not fit into memory";
                file->tensors = more;
            }
            kit_tensor *t = file->tensors + file->count;
            uint64_t bytes = size;
            t->name = *name;
            if ((what = kit_describe(&c, t, &bytes))) return what;
            for (const kit_tensor *other = file->tensors; other < t; other++) {
                if (!strcmp(other->name, t->name)) return "is there twice";
                if (t->data < other->data + other->count * kit_dtype_bytes[other->dtype] && other->data < t->data + bytes)
                    return "overlaps another tensor";
            }
            held += (size_t)bytes;
            file->count++;
        } while (kit_take(&c, ','));
        *name = NULL;
        if (!kit_take(&c, '}')) return "the header is not JSON";
    }
    kit_space(&c);
    if (c.at != c.end) return "its header goes on after its last }";
    return held == size ? NULL : "has bytes that belong to no tensor";
}

kit_file *kit_open(const char *path)
{
    const char *name = NULL, *what;
    kit_file *file = (kit_file *)calloc(1, sizeof *file + strlen(path) + 1);
    if (!file) return perror(path), (kit_file *)NULL;
    file->path = strcpy((char *)(file + 1), path);
    if (!(what = kit_parse(file, &name))) return file;
    kit_complain(file, name, what);
    kit_close(file);
    return NULL;
}

void kit_close(kit_file *file)
{
    if (!file) return;
    free(file->tensors);
    free(file->bytes);
    free(file);
}

static const kit_tensor *kit_find_under(const kit_file *file, const char *folder, const char *name)
{
    size_t length = strlen(folder);
    for (size_t k = 0; k < file->count; k++) {
        const kit_tensor *t = file->tensors + k;
        if (!strncmp(t->name, folder, length) && !strcmp(t->name + length, name)) return t;
    }
    return NULL;
}

const kit_tensor *kit_find(const kit_file *file, const char *name)
{
    return kit_find_under(file, "", name);
}

static double kit_value(const kit_tensor *t, size_t index)
{
    const unsigned bytes = kit_dtype_bytes[t->dtype];
    uint64_t bits = 0;
    for (unsigned byte = bytes; byte--;) bits = bits << 8 | t->data[index * bytes + byte];
    if (t->dtype == KIT_F64) {
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    if (t->dtype == KIT_I64) {
        int64_t value;
        memcpy(&value, &bits, sizeof value);
        return (double)value;
    }
    if (t->dtype == KIT_F16) {
        int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
        double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                                     : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        return bits >> 15 ? -size : size;
    }
    uint32_t word = (uint32_t)(t->dtype == KIT_BF16 ? bits << 16 : bits);
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static void *kit_room(const kit_file *file, const char *name, size_t bytes, const kit_tensor **t) /* for its values */
{
    *t = kit_find(file, name);
    void *room = *t ? calloc((*t)->count + 1, bytes) : NULL;
    if (!room) kit_complain(file, name, *t ? "does not fit into memory" : "no such tensor");
    return room;
}

double *kit_values(const kit_file *file, const char *name)
{
    const kit_tensor *t;
    double *values = (double *)kit_room(file, name, sizeof *values, &t);
    for (size_t k = 0; values && k < t->count; k++) values[k] = kit_value(t, k);
    return values;
}

float *kit_floats(const kit_file *file, const char *name)
{
    const kit_tensor *t;
    float *values = (float *)kit_room(file, name, sizeof *values, &t);
    for (size_t k = 0; values && k < t->count; k++) values[k] = (float)kit_value(t, k);
    return values;
}

static int kit_finite(double x) /* by its bits: under -ffast-math, isfinite says yes to everything */
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 52 & 2047) != 2047;
}

double kit_error(const double *mine, const double *reference, size_t count)
{
    double error = 0, scale = 0;
    for (size_t k = 0; k < count; k++) {
        if (!kit_finite(mine[k]) || !kit_finite(reference[k])) return INFINITY;
        error = fmax(error, fabs(mine[k] - reference[k]));
        scale = fmax(scale, fabs(reference[k]));
    }
    return error > 0 ? (scale > 0 ? error / scale : INFINITY) : 0;
}

static double kit_envelope(const kit_file *file, const char *name, kit_precision precision) /* -1: there is none */
{
    const kit_tensor *t = kit_find_under(file, "envelopes/", name);
    double envelope = t && t->count == 3 && precision ? kit_value(t, (size_t)precision - 1) : 1e-12;
    return t && t->count == 3 && kit_finite(envelope) && envelope >= 0 ? envelope : -1;
}

int kit_check(const kit_file *file, const char *name, const double *mine, kit_precision precision)
{
    double envelope = kit_envelope(file, name, precision), *reference = kit_values(file, name);
    int within = 0;
    if (reference && envelope < 0) kit_complain(file, name, "has no envelope of three numbers");
    if (reference && envelope >= 0) {
        double error = kit_error(mine, reference, kit_find(file, name)->count);
        within = kit_finite(error) && error <= envelope;
        printf("%-44s error %7.1e  envelope %7.1e  %s\n", name, error, envelope, within ? "ok" : "WRONG");
    }
    free(reference);
    return within;
}

int kit_check_floats(const kit_file *file, const char *name, const float *mine, kit_precision precision)
{
    const kit_tensor *t;
    double *values = (double *)kit_room(file, name, sizeof *values, &t);
    for (size_t k = 0; values && k < t->count; k++) values[k] = mine[k];
    int within = values && kit_check(file, name, values, precision);
    free(values);
    return within;
}

#ifndef KIT_NO_MAIN
static int kit_is_in(const char *folder, const char *name) { return !strncmp(name, folder, strlen(folder)); }

static void kit_print_shape(const char *before, const kit_tensor *t)
{
    printf("%s[", before);
    for (int axis = 0; axis < t->rank; axis++) printf("%s%llu", axis ? ", " : "", (unsigned long long)t->shape[axis]);
    printf("]");
}

static int kit_compare(const kit_file *file, const kit_file *mine, kit_precision precision, const char *precision_name)
{
    size_t all = 0, compared = 0, wrong = 0;
    for (size_t k = 0; k < file->count; k++) all += (size_t)kit_is_in("envelopes/", file->tensors[k].name);
    for (size_t k = 0; k < mine->count; k++) {
        const kit_tensor *t = mine->tensors + k, *reference = kit_find(file, t->name);
        if (!reference) return kit_complain(mine, t->name, "the case has no such tensor"), 2;
        if (!kit_is_in("outputs/", t->name) && !kit_is_in("activations/", t->name) &&
            !kit_is_in("cotangents/", t->name) && !kit_is_in("gradients/", t->name)) continue;
        if (kit_envelope(file, t->name, precision) < 0) {
            if (!kit_is_in("cotangents/", t->name) || !kit_find_under(file, "outputs/", t->name + strlen("cotangents/")))
                return kit_complain(file, t->name, "has no envelope of three numbers"), 2;
            printf("%-44s given, not compared\n", t->name);
            continue;
        }
        compared++;
        if (t->rank != reference->rank || memcmp(t->shape, reference->shape, (size_t)t->rank * sizeof *t->shape)) {
            printf("%-44s", t->name);
            kit_print_shape(" shape ", t);
            kit_print_shape(", not ", reference);
            printf("  WRONG\n");
            wrong++;
            continue;
        }
        double *values = kit_values(mine, t->name);
        if (!values) return 2;
        wrong += !kit_check(file, t->name, values, precision);
        free(values);
    }
    if (!compared) return kit_complain(mine, NULL, "no tensor to compare"), 2;
    printf("%zu of %zu tensors compared in %s: ", compared, all, precision_name);
    printf(wrong ? "%zu WRONG\n" : "all within their envelopes\n", wrong);
    return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"float64", "float32", "float16", "bfloat16"};
    const char *name = argc > 3 ? argv[3] : "float32";
    int precision = 0, status = 2;
    while (precision < 4 && strcmp(name, names[precision])) precision++;
    if (argc < 3 || argc > 4 || precision == 4) {
        if (argc == 4) fprintf(stderr, "%s: is not float64, float32, float16 or bfloat16\n", name);
        else fprintf(stderr, "usage: kit CASE.safetensors MINE.safetensors [float64|float32|float16|bfloat16]\n");
        return 2;
    }
    kit_file *file = kit_open(argv[1]), *mine = file ? kit_open(argv[2]) : NULL;
    if (mine) status = kit_compare(file, mine, (kit_precision)precision, name);
    kit_close(mine);
    kit_close(file);
    return status;
}
#endif
