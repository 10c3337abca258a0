/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/sysfs.h"

#include <errno.h>

#include "tests/check.h"

static void numbers_are_read_whole_or_not_at_all(void) {
    static const struct {
        const char *text;
        bool good;
        uint32_t value;
    } hex[] = {{"0xe211\n", true, 0xe211},
               {"e211", true, 0xe211},
               {"0xffffffff", true, UINT32_MAX},
               {"0x100000000", false, 0},
               {"0x", false, 0},
               {"", false, 0},
               {"0xe211 x", false, 0},
               {"-1", false, 0},
               {"\n", false, 0},
               {" 0x12", false, 0},
               {"0x8086\r\n", true, 0x8086}};
    for (size_t i = 0; i < sizeof hex / sizeof *hex; i++) {
        uint32_t value = 7;
        CHECK_EQ(sysfs_hex(hex[i].text, &value), hex[i].good);
        CHECK_EQ(value, hex[i].good ? hex[i].value : 7);
    }
    int64_t number = 7;
    CHECK(sysfs_number("-1\n", &number) && number == -1);
    CHECK(sysfs_number("9223372036854775807", &number) && number == INT64_MAX);
    number = 7;
    CHECK(!sysfs_number("9223372036854775808", &number) && !sysfs_number("", &number));
    CHECK(!sysfs_number("-", &number) && !sysfs_number("12a", &number) && number == 7);
}

static void a_link_is_known_or_zero(void) {
    CHECK_EQ(sysfs_generation("2.5 GT/s PCIe\n"), 1);
    CHECK_EQ(sysfs_generation("5.0 GT/s PCIe\n"), 2);
    CHECK_EQ(sysfs_generation("8.0 GT/s PCIe\n"), 3);
    CHECK_EQ(sysfs_generation("16.0 GT/s PCIe\n"), 4);
    CHECK_EQ(sysfs_generation("32.0 GT/s PCIe\n"), 5);
    CHECK_EQ(sysfs_generation("64.0 GT/s PCIe\n"), 6);
    CHECK_EQ(sysfs_generation("128.0 GT/s PCIe\n"), 7);
    CHECK_EQ(sysfs_generation("Unknown\n"), 0);
    CHECK_EQ(sysfs_generation(""), 0);
    CHECK_EQ(sysfs_lanes("8\n"), 8);
    CHECK_EQ(sysfs_lanes("16\n"), 16);
    CHECK_EQ(sysfs_lanes("255\n"), 0);
    CHECK_EQ(sysfs_lanes("63\n"), 0);
    CHECK_EQ(sysfs_lanes("0\n"), 0);
}

static void an_address_has_one_form(void) {
    static const char *const wrong[] = {
        "0000:03:00.8", "000:03:00.0", "0000:03:00.0 ", "0000-03:00.0", "000g:03:00.0", "", "drm"};
    CHECK(sysfs_is_slot("0000:03:00.0", 12));
    CHECK(sysfs_is_slot("ABcd:ff:1f.7/drm", 12));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(!sysfs_is_slot(wrong[i], strlen(wrong[i])));
}

static void windows_have_the_sizes_that_their_ends_say(void) {
    static const char text[] = "0x00000000a0000000 0x00000000a0ffffff 0x0000000000140204\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x0000380000000000 0x00003807ffffffff 0x000000000014220c\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000";
    uint64_t bytes[SYSFS_BARS] = {5};
    CHECK(sysfs_bars(text, bytes));
    CHECK_EQ(bytes[0], 16u << 20);
    CHECK_EQ(bytes[1], 0);
    CHECK_EQ(bytes[2], INT64_C(32) << 30);
    char cut[sizeof text];
    for (size_t n = 0; n < sizeof text - 19; n++) { /* within the last word it may end anywhere */
        memcpy(cut, text, n);
        cut[n] = '\0';
        bytes[0] = 5;
        CHECK(!sysfs_bars(cut, bytes));
        CHECK_EQ(bytes[0], 5);
    }
    CHECK(!sysfs_bars("0x1 0x2 0x3x\n", bytes));
    CHECK(!sysfs_bars("0x1ffffffffffffffff 0x2 0x3\n", bytes));
}

static void a_release_begins_with_two_numbers(void) {
    uint32_t major = 0, minor = 0;
    CHECK(sysfs_release("7.2.13-amd64", &major, &minor) && major == 7 && minor == 2);
    CHECK(sysfs_release("6.12", &major, &minor) && major == 6 && minor == 12);
    CHECK(!sysfs_release("7", &major, &minor) && !sysfs_release("", &major, &minor));
    CHECK(!sysfs_release("x7.2", &major, &minor) && !sysfs_release("7.x", &major, &minor));
    CHECK(!sysfs_release("99999999999999999999.1", &major, &minor));
    CHECK(major == 6 && minor == 12);
}

static void a_flag_is_a_whole_word_of_its_line(void) {
    CHECK_EQ(sysfs_flag("flags\t\t: fpu la57 avx\n", "flags", "la57"), DRM_YES);
    CHECK_EQ(sysfs_flag("model\t: la57\nflags\t\t: fpu avx", "flags", "la57"), DRM_NO);
    CHECK_EQ(sysfs_flag("flags\t: fpu\nbugs\t: la57\n", "flags", "la57"), DRM_NO);
    CHECK_EQ(sysfs_flag("flags : fpu la577 xla57", "flags", "la57"), DRM_NO);
    CHECK_EQ(sysfs_flag("vmx flags\t: la57\n", "flags", "la57"), DRM_UNKNOWN);
    CHECK_EQ(sysfs_flag("", "flags", "la57"), DRM_UNKNOWN);
    CHECK_EQ(sysfs_flag("flags: la57", "flags", "la57"), DRM_YES);
}

static void an_option_that_a_configuration_lacks_is_off(void) {
    static const char config[] = "# CONFIG_B is not set\nCONFIG_A=y\nCONFIG_AB=m\nCONFIG_C=n\n";
    CHECK_EQ(sysfs_option(config, "CONFIG_A"), DRM_YES);
    CHECK_EQ(sysfs_option(config, "CONFIG_AB"), DRM_YES);
    CHECK_EQ(sysfs_option(config, "CONFIG_B"), DRM_NO);
    CHECK_EQ(sysfs_option(config, "CONFIG_C"), DRM_NO);
    CHECK_EQ(sysfs_option("hello\n", "CONFIG_A"), DRM_UNKNOWN); /* no configuration at all */
    CHECK_EQ(sysfs_option("", "CONFIG_A"), DRM_UNKNOWN);
}

/* Extended capabilities: an error report at 0x100, then ACS at 0x148. */
static void make_config(uint8_t config[4096], uint8_t control) {
    memset(config, 0, 4096);
    memcpy(config + 0x100, (const uint8_t[]){0x01, 0x00, 0x82, 0x14}, 4);
    memcpy(config + 0x148, (const uint8_t[]){0x0d, 0x00, 0x01, 0x00, 0x5f, 0x00, control, 0}, 8);
}

static void redirection_is_three_bits_of_a_capability(void) {
    uint8_t config[4096];
    for (unsigned control = 0; control < 256; control++) {
        make_config(config, (uint8_t)control);
        CHECK_EQ(sysfs_redirects(config, sizeof config), control & (4 | 8 | 32) ? DRM_YES : DRM_NO);
    }
    make_config(config, 4);
    CHECK_EQ(sysfs_redirects(config, 64), DRM_UNKNOWN);
    CHECK_EQ(sysfs_redirects(config, 256), DRM_UNKNOWN);
    CHECK_EQ(sysfs_redirects(config, 0x14c), DRM_UNKNOWN); /* cut inside */
    memset(config, 0, sizeof config);
    CHECK_EQ(sysfs_redirects(config, sizeof config), DRM_NO);
    memset(config, 0xff, sizeof config);
    CHECK_EQ(sysfs_redirects(config, sizeof config), DRM_NO); /* it does not answer */
}

static void a_circle_of_capabilities_ends(void) {
    uint8_t config[4096] = {0};
    memcpy(config + 0x100, (const uint8_t[]){0x01, 0x00, 0x02, 0x10}, 4); /* itself */
    CHECK_EQ(sysfs_redirects(config, sizeof config), DRM_UNKNOWN);
    memcpy(config + 0x100, (const uint8_t[]){0x01, 0x00, 0xc2, 0xff}, 4); /* 0xffc, the end */
    config[0xffc] = 1;
    CHECK_EQ(sysfs_redirects(config, sizeof config), DRM_UNKNOWN);
}

/* Behind ACS, at 0x200. */
static void a_serial_number_is_another_capability(void) {
    uint8_t config[4096];
    char serial[SYSFS_SERIAL_MAX] = "";
    make_config(config, 4);
    CHECK(!sysfs_serial(config, sizeof config, serial));
    memcpy(config + 0x148, (const uint8_t[]){0x0d, 0x00, 0x01, 0x20}, 4);
    const uint8_t bytes[] = {0x03, 0x00, 0x01, 0x00, 0x18, 0x07,
                             0xf6, 0xe5, 0xd4, 0xc3, 0xb2, 0xa1};
    memcpy(config + 0x200, bytes, sizeof bytes);
    CHECK(sysfs_serial(config, sizeof config, serial));
    CHECK(!strcmp(serial, "a1-b2-c3-d4-e5-f6-07-18"));
    CHECK_EQ(sysfs_redirects(config, sizeof config), DRM_YES);
    CHECK(!sysfs_serial(config, 64, serial));
    CHECK(!sysfs_serial(config, 0x200 + 11, serial)); /* cut inside */
    memset(config + 0x204, 0, 8);
    CHECK(!sysfs_serial(config, sizeof config, serial));
    memset(config + 0x204, 0xff, 8);
    CHECK(!sysfs_serial(config, sizeof config, serial));
}

static void what_is_not_there_is_an_error_and_what_is_long_is_cut(void) {
    char text[5];
    CHECK_EQ(sysfs_read("/proc/self/no-such-file", text, sizeof text), -ENOENT);
    CHECK_EQ(sysfs_read("/proc/self", text, sizeof text), -EISDIR);
    CHECK_EQ(sysfs_read("/proc/self/status", text, sizeof text), 4);
    CHECK(!strcmp(text, "Name"));
}

CHECK_MAIN(T(numbers_are_read_whole_or_not_at_all), T(a_link_is_known_or_zero),
           T(an_address_has_one_form), T(windows_have_the_sizes_that_their_ends_say),
           T(a_release_begins_with_two_numbers), T(a_flag_is_a_whole_word_of_its_line),
           T(an_option_that_a_configuration_lacks_is_off),
           T(redirection_is_three_bits_of_a_capability), T(a_circle_of_capabilities_ends),
           T(a_serial_number_is_another_capability),
           T(what_is_not_there_is_an_error_and_what_is_long_is_cut))
