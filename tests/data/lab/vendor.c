/*
 * Preloaded into libvirt's daemon: it then writes the properties of an SMMUv3 as NVIDIA's libvirt 11.9 does, with 'pasid' and
 * 'tegra241-cmdqv' and as booleans and numbers. All else is the daemon's own text.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Upstream's property and value, and NVIDIA's. */
static const char *const spellings[][2] = {
    { "\"ats\":\"on\"", "\"ats\":true" },         { "\"ats\":\"off\"", "\"ats\":false" },
    { "\"ril\":\"on\"", "\"ril\":true" },         { "\"ril\":\"off\"", "\"ril\":false" },
    { "\"ssidsize\":\"20\"", "\"pasid\":true" },  { "\"ssidsize\":\"0\"", "\"pasid\":false" },
    { "\"oas\":\"44\"", "\"oas\":44" },           { "\"oas\":\"48\"", "\"oas\":48" },
    { "\"cmdqv\":\"on\"", "\"tegra241-cmdqv\":true" }, { "\"cmdqv\":\"off\"", "\"tegra241-cmdqv\":false" },
};

/* The text with the first FROM replaced; frees the old one. */
static char *replaced(char *text, const char *from, const char *to)
{
    char *found = strstr(text, from);
    char *other = found ? malloc(strlen(text) + strlen(to) + 1) : NULL;
    if (!other)
        return text;
    memcpy(other, text, found - text);
    strcpy(stpcpy(other + (found - text), to), found + strlen(from));
    free(text);
    return other;
}

/* libvirt's own function for the arguments of QEMU (src/util/virjson.h). */
char *virJSONValueToString(void *object, bool pretty)
{
    char *(*real)(void *, bool) = dlsym(RTLD_NEXT, "virJSONValueToString");
    char *text = real(object, pretty);
    if (!text || !strstr(text, "\"driver\":\"arm-smmuv3\""))
        return text;
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        text = replaced(text, spellings[i][0], spellings[i][1]);
    return text;
}
