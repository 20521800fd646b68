//! How busy the machine was with something else: what makes a measurement worth less.

/// Ticks per second of the times in `/proc`; Linux shows 100 on every architecture we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds that all processes of the machine but this one have taken since some start; time that a
/// hypervisor gave to other machines counts as taken.
pub(crate) fn cpu_seconds_of_others() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("Linux tells it");
    let all: Vec<f64> = numbers(stat.lines().next().unwrap_or_default());
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in the first two.
    let busy = |index: &usize| all.get(*index).copied().unwrap_or_default();
    let busy: f64 = [0, 1, 2, 5, 6, 7].iter().map(busy).sum();
    let own = std::fs::read_to_string("/proc/self/stat").expect("Linux tells it");
    // The name, in parentheses, may itself hold spaces; user and system time are 11 fields after it.
    let own = own.rsplit_once(')').map_or("", |(_, fields)| fields);
    let own: f64 = numbers(own).iter().skip(10).take(2).sum();
    (busy - own) / TICKS_PER_SECOND
}

/// The words that are numbers; the letter of the state and the name of the row are none.
fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}
