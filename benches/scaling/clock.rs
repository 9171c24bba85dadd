//! CPU time of this thread, which does not pass while other programs run.

use std::{fs, sync::LazyLock, thread, time::Instant};

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// In nanoseconds. Takes some microseconds itself. Where there is no `/proc` of Linux, it is the time of day.
pub(crate) fn now() -> f64 {
    // The kernel counts at ticks and when a thread gives way.
    thread::yield_now();
    let line = fs::read_to_string("/proc/thread-self/schedstat");
    let on_cpu = line.ok().and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    on_cpu.map_or_else(|| BEGAN.elapsed().as_nanos() as f64, |on_cpu| on_cpu as f64)
}
