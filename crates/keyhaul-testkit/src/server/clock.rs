//! Another time of day for one server process: a shared object that stands in front of the C library's clocks.
//!
//! Built by the C compiler, which linking Rust programs needs anyway, when a server asks for it; only the clock of
//! the day is shifted, not the monotonic one. It asks the kernel itself, so that it needs nothing of the library that the
//! server runs with.

use std::path::Path;
use std::process::Command;

/// The variable that tells the object by how much.
const VARIABLE: &str = "KEYHAUL_CLOCK_SHIFT_SECONDS";

const CODE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift_seconds(void) {
    const char *text = getenv("KEYHAUL_CLOCK_SHIFT_SECONDS");
    return text ? strtol(text, 0, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift_seconds();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}
"#;

/// Makes `command` run with its clock shifted; the object lies in `folder`.
///
/// # Panics
/// If there is no C compiler, or it fails.
pub(super) fn shift(command: &mut Command, seconds: i64, folder: &Path) {
    let (source, object) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, CODE).expect("a temporary folder can be written");
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&object)
        .arg(&source);
    let built = compile
        .output()
        .expect("cc can be run: install gcc and libc6-dev");
    assert!(
        built.status.success(),
        "cc: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    command
        .env("LD_PRELOAD", &object)
        .env(VARIABLE, seconds.to_string());
}
