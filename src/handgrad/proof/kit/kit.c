/*
 * Reads the cases of handgrad's conformance kit, and checks a kernel's results against them. C99, and C++ too, so that
 * nvcc takes it; needs only libc and libm. As a program:
 *
 *     cc -O2 -o kit kit.c -lm
 *     ./kit layer_norm.plain.safetensors mine.safetensors [float64|float32|float16|bfloat16]
 *
 * compares the tensors of mine, any of the case's outputs/, activations/, cotangents/ and gradients/ as F64, F32, F16
 * or BF16. Status 0: all within their envelopes; 1: some are not; 2: something cannot be used. In a program of yours:
 *
 *     #define KIT_NO_MAIN
 *     #include "kit.c"
 *
 *     int main(int argc, char **argv) {
 *         kit_file *file = argc > 1 ? kit_open(argv[1]) : NULL;
 *         if (!file) return 2;
 *         const kit_tensor *t = kit_find(file, "inputs/x");
 *         size_t width = t->shape[t->rank - 1], rows = t->count / width;
 *         float *x = kit_floats(file, "inputs/x"), *dy = kit_floats(file, "cotangents/y");
 *         float *gamma = kit_floats(file, "inputs/gamma"), *beta = kit_floats(file, "inputs/beta");
 *         float *y = malloc(t->count * sizeof *y), *dx = malloc(t->count * sizeof *dx);
 *         float *dgamma = malloc(width * sizeof *dgamma), *dbeta = malloc(width * sizeof *dbeta);
 *         layer_norm(x, gamma, beta, y, rows, width);
 *         layer_norm_backward(dy, x, gamma, dx, dgamma, dbeta, rows, width);
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

typedef enum { KIT_FLOAT64, KIT_FLOAT32, KIT_FLOAT16, KIT_BFLOAT16 } kit_precision; /* what a kernel computes in */

#define KIT_AXES 8
typedef struct {
    const char *name;
    int dtype, rank;
    uint64_t shape[KIT_AXES];
    size_t count; /* of values */
    const unsigned char *data;
} kit_tensor;

typedef struct {
    char *path;
    unsigned char *bytes;
    kit_tensor *tensors; /* in the header's order */
    size_t count;
} kit_file;

/* What cannot be had (then NULL) or compared (0) is said in one line on stderr; only kit_find is silent. */
kit_file *kit_open(const char *path);
void kit_close(kit_file *file);
const kit_tensor *kit_find(const kit_file *file, const char *name);
double *kit_values(const kit_file *file, const char *name); /* whatever its dtype; yours to free */
float *kit_floats(const kit_file *file, const char *name);
/* max |mine - reference| / max |reference|, or max |mine| where the reference is all zero. Infinite where an entry of
 * either is not finite. */
double kit_error(const double *mine, const double *reference, size_t count);
/* Prints the tensor's line; whether mine, which must have as many values as the case's, is within the envelope. */
int kit_check(const kit_file *file, const char *name, const double *mine, kit_precision precision);
int kit_check_floats(const kit_file *file, const char *name, const float *mine, kit_precision precision);

enum { KIT_F64, KIT_F32, KIT_F16, KIT_BF16, KIT_I64, KIT_DTYPES };
static const char *const kit_dtypes[KIT_DTYPES] = {"F64", "F32", "F16", "BF16", "I64"};
static const unsigned kit_widths[KIT_DTYPES] = {8, 4, 2, 2, 8};

static void kit_complain(const kit_file *file, const char *name, const char *what) {
    fprintf(stderr, "%s: %s%s%s\n", file->path, name ? name : "", name ? ": " : "", what);
}

/* The header is JSON. These take one thing, after any white space, or return 0 (NULL, -1) where it is not next. */
typedef struct { unsigned char *at, *end; } kit_cursor;

static int kit_take(kit_cursor *c, char wanted) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) c->at++;
    if (c->at == c->end || *c->at != wanted) return 0;
    c->at++;
    return 1;
}

static const char *kit_string(kit_cursor *c) { /* ended by a 0 where it lies; other escapes than \" \\ \/ stay */
    if (!kit_take(c, '"')) return NULL;
    unsigned char *begin = c->at, *to = begin;
    while (c->at < c->end && *c->at != '"') {
        if (*c->at == '\\' && c->end - c->at > 1) {
            if (c->at[1] != '"' && c->at[1] != '\\' && c->at[1] != '/') *to++ = '\\';
            c->at++;
        }
        if (*c->at < ' ') return NULL; /* so a message that names it is one line */
        *to++ = *c->at++;
    }
    if (!kit_take(c, '"')) return NULL;
    *to = 0;
    return (const char *)begin;
}

static int kit_numbers(kit_cursor *c, uint64_t *numbers, int most) { /* [2, 3]: how many they are */
    int count = 0;
    if (!kit_take(c, '[')) return -1;
    if (kit_take(c, ']')) return 0;
    do {
        uint64_t number = 0;
        kit_take(c, ' ');
        if (count == most || c->at == c->end || *c->at < '0' || *c->at > '9') return -1;
        for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
            if (number > (UINT64_MAX - 9) / 10) return -1;
            number = 10 * number + *c->at - '0';
        }
        numbers[count++] = number;
    } while (kit_take(c, ','));
    return kit_take(c, ']') ? count : -1;
}

/* These return what is wrong, or NULL. */
static const char *kit_describe(kit_cursor *c, kit_tensor *t, uint64_t size) { /* size of all data, after the header */
    uint64_t ends[2] = {1, 0}, count = 1;
    t->dtype = KIT_DTYPES;
    t->rank = -1;
    if (!kit_take(c, '{')) return "is not described by {...}";
    do {
        const char *key = kit_string(c), *dtype;
        if (!key || !kit_take(c, ':')) return "its description is not JSON";
        if (!strcmp(key, "dtype") && (dtype = kit_string(c))) {
            for (t->dtype = 0; t->dtype < KIT_DTYPES && strcmp(dtype, kit_dtypes[t->dtype]);) t->dtype++;
        } else if (!strcmp(key, "shape")) {
            t->rank = kit_numbers(c, t->shape, KIT_AXES);
        } else if (!strcmp(key, "data_offsets")) {
            if (kit_numbers(c, ends, 2) != 2) return "its data_offsets are not two whole numbers";
        } else return "is described by something else than a dtype, a shape and data_offsets";
    } while (kit_take(c, ','));
    if (t->dtype == KIT_DTYPES) return "its dtype is not F64, F32, F16, BF16 or I64";
    if (t->rank < 0) return "its shape is not a list of at most 8 whole numbers";
    if (!kit_take(c, '}')) return "its description is not JSON";
    if (ends[0] > ends[1] || ends[1] > size) return "its data_offsets are outside the file: truncated?";
    for (int axis = 0; axis < t->rank; count *= t->shape[axis++])
        if (t->shape[axis] && count > UINT64_MAX / t->shape[axis]) return "its shape is too large";
    size = ends[1] - ends[0];
    if (size % kit_widths[t->dtype] || size / kit_widths[t->dtype] != count) return "its shape does not fit its data";
    t->count = (size_t)count;
    t->data = c->end + ends[0];
    return NULL;
}

static size_t kit_size(const kit_tensor *t) { return t->count * kit_widths[t->dtype]; }

static const char *kit_parse(kit_file *file, size_t size, const char **name) { /* of the tensor that is wrong */
    uint64_t header = 0;
    const char *what;
    if (size < 8) return "is not safetensors, or truncated: it has fewer than 8 bytes";
    for (int byte = 8; byte--;) header = header << 8 | file->bytes[byte];
    if ((size -= 8) < header) return "is not safetensors, or truncated: its header would be larger than the file";
    size -= (size_t)header;
    kit_cursor c = {file->bytes + 8, file->bytes + 8 + header};
    file->tensors = (kit_tensor *)calloc((size_t)header / 50 + 1, sizeof *file->tensors); /* each takes 50 bytes */
    if (!file->tensors) return "does not fit into memory";
    if (!kit_take(&c, '{')) return "is not safetensors: its header does not begin with {";
    if (!kit_take(&c, '}')) {
        do {
            if (!(*name = kit_string(&c)) || !kit_take(&c, ':')) return "the header is not JSON";
            if (!strcmp(*name, "__metadata__")) {
                if (!kit_take(&c, '{')) return "is not {...} of strings";
                while (kit_string(&c)) if (!kit_take(&c, ':')) kit_take(&c, ',');
                if (!kit_take(&c, '}')) return "is not {...} of strings";
                continue;
            }
            kit_tensor *t = file->tensors + file->count, *other = file->tensors;
            t->name = *name;
            if ((what = kit_describe(&c, t, size))) return what;
            for (; other < t; other++) {
                if (!strcmp(other->name, t->name)) return "is there twice";
                if (t->data < other->data + kit_size(other) && other->data < t->data + kit_size(t))
                    return "overlaps another tensor";
            }
            file->count++;
        } while (kit_take(&c, ','));
        *name = NULL;
        if (!kit_take(&c, '}')) return "the header is not JSON";
    }
    kit_take(&c, ' ');
    if (c.at != c.end) return "the header goes on after its last }";
    for (size_t k = 0; k < file->count; k++) size -= kit_size(file->tensors + k);
    return size ? "has bytes that belong to no tensor" : NULL;
}

kit_file *kit_open(const char *path) {
    const char *name = NULL, *what = NULL;
    long size = -1;
    kit_file *file = (kit_file *)calloc(1, sizeof *file + strlen(path) + 1);
    if (!file) return perror(path), (kit_file *)NULL;
    file->path = strcpy((char *)(file + 1), path);
    FILE *stream = fopen(path, "rb");
    if (!stream || (fgetc(stream) == EOF && ferror(stream)) || fseek(stream, 0, SEEK_END) || (size = ftell(stream)) < 0)
        what = strerror(errno); /* of fgetc, where it is a folder */
    else if (!(file->bytes = (unsigned char *)malloc(size ? (size_t)size : 1)))
        what = "does not fit into memory";
    else if (rewind(stream), fread(file->bytes, 1, (size_t)size, stream) != (size_t)size)
        what = "cannot be read to its end";
    else
        what = kit_parse(file, (size_t)size, &name);
    if (stream) fclose(stream);
    if (!what) return file;
    kit_complain(file, name, what);
    kit_close(file);
    return NULL;
}

void kit_close(kit_file *file) {
    if (!file) return;
    free(file->tensors);
    free(file->bytes);
    free(file);
}

static const kit_tensor *kit_find_under(const kit_file *file, const char *folder, const char *name) {
    size_t length = strlen(folder);
    for (const kit_tensor *t = file->tensors; t < file->tensors + file->count; t++)
        if (!strncmp(t->name, folder, length) && !strcmp(t->name + length, name)) return t;
    return NULL;
}

const kit_tensor *kit_find(const kit_file *file, const char *name) { return kit_find_under(file, "", name); }

/* Of what is not finite: by the bits, because -ffast-math lets a compiler assume that it never comes. */
static const uint64_t kit_infinite = (uint64_t)2047 << 52;

static double kit_double(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static int kit_finite(const double *x) {
    uint64_t bits;
    memcpy(&bits, x, sizeof bits);
    return (bits & kit_infinite) != kit_infinite;
}

static double kit_value(const kit_tensor *t, size_t index) {
    uint64_t bits = 0;
    for (unsigned width = kit_widths[t->dtype], byte = width; byte--;) bits = bits << 8 | t->data[index * width + byte];
    uint32_t word = (uint32_t)(t->dtype == KIT_BF16 ? bits << 16 : bits);
    float single;
    memcpy(&single, &word, sizeof single);
    if (t->dtype == KIT_F64) return kit_double(bits);
    if (t->dtype == KIT_I64) return (double)(int64_t)bits;
    if (t->dtype != KIT_F16) return (double)single;
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return kit_double((bits & 1023) << 42 | (bits >> 15) << 63 | kit_infinite);
    double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits >> 15 ? -size : size;
}

double *kit_values(const kit_file *file, const char *name) {
    const kit_tensor *t = kit_find(file, name);
    double *values = t ? (double *)calloc(t->count + 1, sizeof *values) : NULL;
    if (!values) kit_complain(file, name, t ? "does not fit into memory" : "no such tensor");
    for (size_t k = 0; values && k < t->count; k++) values[k] = kit_value(t, k);
    return values;
}

float *kit_floats(const kit_file *file, const char *name) {
    const kit_tensor *t = kit_find(file, name);
    float *values = t ? (float *)calloc(t->count + 1, sizeof *values) : NULL;
    if (!values) kit_complain(file, name, t ? "does not fit into memory" : "no such tensor");
    for (size_t k = 0; values && k < t->count; k++) values[k] = (float)kit_value(t, k);
    return values;
}

double kit_error(const double *mine, const double *reference, size_t count) {
    double error = 0, scale = 0;
    for (size_t k = 0; k < count; k++) {
        if (!kit_finite(mine + k) || !kit_finite(reference + k)) return kit_double(kit_infinite);
        error = fmax(error, fabs(mine[k] - reference[k]));
        scale = fmax(scale, fabs(reference[k]));
    }
    return scale > 0 ? error / scale : error;
}

static double kit_envelope(const kit_file *file, const char *name, kit_precision precision) { /* negative: none */
    const kit_tensor *t = kit_find_under(file, "envelopes/", name);
    if (!t || t->count != 3) return -1;
    double envelope = precision == KIT_FLOAT64 ? 1e-12 : kit_value(t, (size_t)precision - KIT_FLOAT32);
    return kit_finite(&envelope) ? envelope : -1;
}

int kit_check(const kit_file *file, const char *name, const double *mine, kit_precision precision) {
    double *reference = kit_values(file, name), envelope = kit_envelope(file, name, precision);
    int within = 0;
    if (reference && envelope < 0) {
        kit_complain(file, name, "has no envelope");
    } else if (reference) {
        double error = kit_error(mine, reference, kit_find(file, name)->count);
        within = kit_finite(&error) && error <= envelope;
        printf("%-44s error %7.1e  envelope %7.1e  %s\n", name, error, envelope, within ? "ok" : "WRONG");
    }
    free(reference);
    return within;
}

int kit_check_floats(const kit_file *file, const char *name, const float *mine, kit_precision precision) {
    double *values = kit_values(file, name); /* as many as mine has */
    const size_t count = values ? kit_find(file, name)->count : 0;
    for (size_t k = 0; k < count; k++) values[k] = (double)mine[k];
    int within = values && kit_check(file, name, values, precision);
    free(values);
    return within;
}

#ifndef KIT_NO_MAIN
static int kit_is_in(const char *folder, const char *name) { return !strncmp(name, folder, strlen(folder)); }

static void kit_print_shape(const char *before, const kit_tensor *t) {
    printf("%s[", before);
    for (int axis = 0; axis < t->rank; axis++) printf("%s%llu", axis ? ", " : "", (unsigned long long)t->shape[axis]);
    printf("]");
}

static int kit_compare(const kit_file *file, const kit_file *mine, kit_precision precision, const char *in) {
    size_t all = 0, compared = 0, wrong = 0;
    for (size_t k = 0; k < file->count; k++) all += kit_is_in("envelopes/", file->tensors[k].name) ? 1 : 0;
    for (const kit_tensor *t = mine->tensors; t < mine->tensors + mine->count; t++) {
        const kit_tensor *reference = kit_find(file, t->name);
        if (!reference) return kit_complain(mine, t->name, "the case has no such tensor"), 2;
        int is_cotangent = kit_is_in("cotangents/", t->name);
        if (!is_cotangent && !kit_is_in("outputs/", t->name) && !kit_is_in("activations/", t->name) &&
            !kit_is_in("gradients/", t->name)) continue;
        if (kit_envelope(file, t->name, precision) < 0) {
            if (!is_cotangent || !kit_find_under(file, "outputs/", t->name + strlen("cotangents/")))
                return kit_complain(file, t->name, "has no envelope"), 2;
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
    if (!compared) return kit_complain(mine, NULL, "has no tensor to compare"), 2;
    printf("%zu of %zu tensors compared in %s, %zu wrong\n", compared, all, in, wrong);
    return wrong ? 1 : 0;
}

int main(int argc, char **argv) {
    static const char *const names[] = {"float64", "float32", "float16", "bfloat16"};
    const char *name = argc > 3 ? argv[3] : "float32";
    int precision = 0, status = 2;
    while (precision < 4 && strcmp(name, names[precision])) precision++;
    if (argc < 3 || argc > 4 || precision == 4) {
        fprintf(stderr, "%s%susage: kit CASE.safetensors MINE.safetensors [float64|float32|float16|bfloat16]\n",
                precision == 4 ? name : "", precision == 4 ? ": unknown; " : "");
        return 2;
    }
    kit_file *file = kit_open(argv[1]), *mine = file ? kit_open(argv[2]) : NULL;
    if (mine) status = kit_compare(file, mine, (kit_precision)precision, name);
    kit_close(mine);
    kit_close(file);
    return status;
}
#endif
