//! What a running job shows: a bar on a terminal, `key=value` lines elsewhere. Only reads the
//! engine's counters.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use keyhaul_engine::follow::{ShardSnapshot, State, StatusSnapshot};
use keyhaul_engine::progress::{BigKeyProgress, Phase, Progress, ShardProgress, Snapshot};
use tokio_util::sync::CancellationToken;

use crate::args::ProgressArg;
use crate::live::text::{self as live_text, SHARD_LINES_MAX};
use crate::rates::Rates;
use crate::screen::Screen;
use crate::{duration, live, size};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// One look before five seconds are over.
const PLAIN_LINE_INTERVAL: Duration = Duration::from_millis(4800);
/// A live job may go from one state to another and back with every look.
const STATE_LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bar,
    Plain,
    None,
}

impl Style {
    /// What an option comes to on this terminal, or without one.
    pub(crate) fn of(argument: ProgressArg) -> Self {
        match argument {
            ProgressArg::None => Self::None,
            ProgressArg::Plain => Self::Plain,
            ProgressArg::Auto | ProgressArg::Bar if std::io::stderr().is_terminal() => Self::Bar,
            ProgressArg::Auto | ProgressArg::Bar => Self::Plain,
        }
    }
}

/// What is to be shown, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShowOptions {
    pub(crate) style: Style,
    /// A line for each source node too.
    pub(crate) with_shards: bool,
    /// Filters leave out an unknown part of what the source says it holds: no end can be foretold.
    pub(crate) is_filtered: bool,
    /// The job is a comparison: what counts in the end are keys that were looked at.
    pub(crate) compares: bool,
    /// The job follows its source: what counts behind the copy is how far it lags.
    pub(crate) follows: bool,
}

/// Keys of a copy that nothing is to be done for any more.
pub(crate) fn keys_settled(snapshot: &Snapshot) -> u64 {
    snapshot.keys_copied + snapshot.keys_skipped + snapshot.keys_gone + snapshot.keys_not_moved
}

/// Shows the progress of a job while it is `running`.
pub(crate) async fn shown<T>(
    progress: Arc<Progress>,
    options: ShowOptions,
    screen: &Screen,
    running: impl Future<Output = T>,
) -> T {
    let finished = CancellationToken::new();
    let showing = tokio::spawn(show(progress, options, screen.clone(), finished.clone()));
    let result = running.await;
    finished.cancel();
    // Whatever became of the bar, the result counts.
    drop(showing.await);
    result
}

/// Shows progress until `finished` is cancelled.
async fn show(
    progress: Arc<Progress>,
    options: ShowOptions,
    screen: Screen,
    finished: CancellationToken,
) {
    let mut bars = match options.style {
        Style::Bar => Some(Bars::new(&screen)),
        Style::Plain => None,
        Style::None => return,
    };
    let mut lines = PlainLines::default();
    let mut rates = Rates::default();
    let mut phase = Phase::Starting;
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        let is_last = tokio::select! {
            () = finished.cancelled() => true,
            _ = ticks.tick() => false,
        };
        let now = Instant::now();
        let snapshot = progress.snapshot();
        let live = options.follows.then(|| progress.live.snapshot());
        let phase_now = live_text::phase(snapshot.phase, live.as_ref());
        if phase_now != phase {
            (phase, rates) = (phase_now, Rates::default());
        }
        let big_keys = progress.big_keys();
        let mut view = View::new(&snapshot, live.as_ref(), &mut rates, now, options);
        view.big_keys = &big_keys;
        match &mut bars {
            Some(bars) if is_last => bars.clear(),
            Some(bars) => bars.draw(&view),
            None => lines.show(&view, now, is_last, &screen),
        }
        if is_last {
            return;
        }
    }
}

/// One moment, ready to be shown.
struct View<'a> {
    snapshot: &'a Snapshot,
    phase: Phase,
    /// Of a job that follows its source.
    live: Option<&'a StatusSnapshot>,
    /// The same once its copy is done.
    followed: Option<&'a StatusSnapshot>,
    keys_done: u64,
    keys_expected: Option<u64>,
    /// Keys and bytes; of a job that follows, commands.
    per_second: Option<(f64, f64)>,
    time_left: Option<Duration>,
    shards: &'a [ShardProgress],
    /// Those on their way in chunks.
    big_keys: &'a [Arc<BigKeyProgress>],
    with_shards: bool,
}

impl<'a> View<'a> {
    fn new(
        snapshot: &'a Snapshot,
        live: Option<&'a StatusSnapshot>,
        rates: &mut Rates,
        now: Instant,
        options: ShowOptions,
    ) -> Self {
        let phase = live_text::phase(snapshot.phase, live);
        let followed = live.filter(|live| live_text::follows(snapshot.phase, live));
        let keys_done = match phase {
            Phase::Verifying | Phase::Scanning => snapshot.keys_verified,
            Phase::Done | Phase::Stopped if options.compares => snapshot.keys_verified,
            Phase::Starting | Phase::Copying | Phase::Following | Phase::Done | Phase::Stopped => {
                keys_settled(snapshot)
            }
        };
        let is_known = snapshot.keys_expected > 0 && !options.is_filtered;
        let keys_expected = is_known.then(|| snapshot.keys_expected.max(keys_done));
        match followed {
            Some(live) => rates.add(now, live::sum(live, |shard| shard.commands), 0),
            None => rates.add(now, keys_done, snapshot.bytes_copied),
        }
        let is_moving = matches!(
            phase,
            Phase::Copying | Phase::Verifying | Phase::Scanning | Phase::Following
        );
        let keys_left = keys_expected.map(|expected| expected - keys_done);
        Self {
            snapshot,
            phase,
            live,
            followed,
            keys_done,
            keys_expected,
            per_second: rates.per_second().filter(|_| is_moving),
            time_left: keys_left
                .filter(|_| is_moving && followed.is_none())
                .and_then(|left| rates.time_left(left)),
            big_keys: &[],
            with_shards: options.with_shards,
            // What was found for the copy says nothing any more.
            shards: if options.with_shards && followed.is_none() {
                &snapshot.shards
            } else {
                &[]
            },
        }
    }

    /// The shards that are followed, where a line for each was asked for.
    fn live_shards(&self) -> &'a [ShardSnapshot] {
        match self.followed {
            Some(live) if self.with_shards => &live.shards,
            _ => &[],
        }
    }

    /// What the job does, in one word.
    fn state(&self) -> &'static str {
        live_text::state(self.snapshot.phase, self.live)
    }

    /// Why nothing moves at present.
    fn waiting(&self) -> Option<&str> {
        let of_shard = self.live.and_then(live_text::waiting);
        self.snapshot.waiting.as_deref().or(of_shard)
    }

    /// `state=following lag_bytes=0 lag_ms=0 keys=10 ...`; what is not known is left out.
    fn plain_live(&self, live: &StatusSnapshot) -> String {
        let (state, lag, keys) = (self.state(), live_text::lag_pairs(live), self.keys_done);
        let rate = self.per_second.map(|(commands, _)| commands);
        let mut line = format!(
            "state={state}{lag} keys={keys}{}",
            live_text::pairs(live, rate)
        );
        self.push_troubles(&mut line);
        line
    }

    /// `state=copying keys=10 ...`; what is not known is left out.
    fn plain(&self) -> String {
        if let Some(live) = self.followed {
            return self.plain_live(live);
        }
        let snapshot = self.snapshot;
        let mut line = format!("state={} keys={}", self.state(), self.keys_done);
        let mut pair = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                line.push_str(&format!(" {name}={value}"));
            }
        };
        let some = |count: u64| Some(count).filter(|count| *count > 0);
        pair("keys_expected", self.keys_expected);
        pair("bytes", Some(snapshot.bytes_copied));
        pair("bytes_read", some(snapshot.bytes_read));
        pair("bytes_expected", some(snapshot.bytes_expected));
        pair("rate", self.per_second.map(|(keys, _)| keys as u64));
        if self.phase == Phase::Copying {
            pair("byte_rate", self.per_second.map(|(_, bytes)| bytes as u64));
        }
        pair(
            "eta",
            self.time_left.map(|left| left.as_secs_f64().ceil() as u64),
        );
        pair("skipped", some(snapshot.keys_skipped));
        pair("gone", some(snapshot.keys_gone));
        let spool = self
            .live
            .map(|live| live::sum(live, |shard| shard.spool_bytes));
        pair("spool", spool.and_then(some));
        self.push_troubles(&mut line);
        line
    }

    fn push_troubles(&self, line: &mut String) {
        for (name, count) in [
            ("not_moved", self.snapshot.keys_not_moved),
            ("retries", self.snapshot.retries),
        ] {
            if count > 0 {
                line.push_str(&format!(" {name}={count}"));
            }
        }
        if let Some(reason) = self.waiting() {
            line.push_str(&format!(" waiting={reason:?}"));
        }
    }

    /// `1,000 keys  12.0 MB  500 keys/s  6.0 MB/s  4.0 s left`
    fn readable(&self) -> String {
        let snapshot = self.snapshot;
        let rate = self.per_second.map(|(commands, _)| commands);
        let mut parts = match self.followed {
            Some(live) => vec![live_text::readable(live, rate)],
            None => self.readable_copy(),
        };
        if snapshot.keys_not_moved > 0 {
            parts.push(format!(
                "{} not moved",
                size::show_count(snapshot.keys_not_moved)
            ));
        }
        parts.join("  ")
    }

    fn readable_copy(&self) -> Vec<String> {
        let snapshot = self.snapshot;
        let mut parts = vec![format!("{} keys", size::show_count(self.keys_done))];
        if self.phase != Phase::Verifying {
            parts.push(match (snapshot.bytes_read, snapshot.bytes_expected) {
                (0, _) => size::show(snapshot.bytes_copied),
                (read, 0) => format!("{} read", size::show(read)),
                (read, all) => format!("{} of {} read", size::show(read), size::show(all)),
            });
        }
        if let Some((keys, bytes)) = self.per_second {
            parts.push(format!("{} keys/s", size::show_count(keys as u64)));
            if self.phase == Phase::Copying {
                parts.push(format!("{}/s", size::show(bytes as u64)));
            }
        }
        if let Some(left) = self.time_left {
            parts.push(format!("{} left", duration::show(left)));
        }
        parts
    }
}

/// Lines for a log file: one at each change of phase or state, else one in five seconds.
#[derive(Default)]
struct PlainLines {
    last: Option<(Phase, Option<State>, Instant)>,
}

/// A source that is written makes a job that follows it synced now and not the next moment: that is one state here.
fn told_state(live: &StatusSnapshot) -> State {
    match live.state {
        State::Synced => State::Following,
        other => other,
    }
}

impl PlainLines {
    fn show(&mut self, view: &View<'_>, now: Instant, is_last: bool, screen: &Screen) {
        let (phase, state) = (view.phase, view.followed.map(told_state));
        let is_due = self.last.is_none_or(|(last_phase, last_state, at)| {
            let passed = now.duration_since(at);
            let is_new_state = last_state != state && passed >= STATE_LINE_INTERVAL;
            last_phase != phase || is_new_state || passed >= PLAIN_LINE_INTERVAL
        });
        // A job that was stopped ends in a phase that was told before.
        let is_early_end = is_last && phase != Phase::Done;
        if !(is_due || is_early_end) {
            return;
        }
        self.last = Some((phase, state, now));
        screen.line(&view.plain());
        for key in view.big_keys {
            screen.line(&format!(
                "state={} db={} big_key={} type={} elements={} elements_expected={} bytes={}",
                view.state(),
                key.db,
                key.key.replace(' ', "\\x20"),
                key.key_type(),
                key.elements(),
                key.elements_expected(),
                key.bytes()
            ));
        }
        for shard in view.shards {
            screen.line(&format!(
                "state={} node={} db={} keys_found={} done={}",
                view.state(),
                shard.node,
                shard.db,
                shard.keys_found,
                shard.done
            ));
        }
        for shard in view.live_shards() {
            screen.line(&live_text::shard_pairs(shard));
        }
    }
}

/// The bar and the lines below it.
struct Bars {
    main: ProgressBar,
    waiting: ProgressBar,
    big_keys: Vec<ProgressBar>,
    shards: Vec<ProgressBar>,
    screen: Screen,
    has_end: Option<bool>,
}

impl Bars {
    fn new(screen: &Screen) -> Self {
        let main = screen.bars().add(ProgressBar::new_spinner());
        main.enable_steady_tick(LOOK_INTERVAL);
        Self {
            main,
            waiting: ProgressBar::hidden(),
            big_keys: Vec::new(),
            shards: Vec::new(),
            screen: screen.clone(),
            has_end: None,
        }
    }

    fn draw(&mut self, view: &View<'_>) {
        let has_end = view.keys_expected.is_some() && view.followed.is_none();
        if self.has_end != Some(has_end) {
            self.has_end = Some(has_end);
            self.main.set_style(style(if has_end {
                "{prefix:9} [{bar:24}] {percent:>3}%  {wide_msg}"
            } else {
                "{prefix:11} {spinner}  {wide_msg}"
            }));
        }
        self.main.set_prefix(view.state().replace('_', " "));
        self.main.set_length(view.keys_expected.unwrap_or_default());
        self.main.set_position(view.keys_done);
        self.main.set_message(view.readable());
        self.draw_waiting(view.waiting());
        self.draw_big_keys(view.big_keys);
        let of_copy = view.shards.iter().map(shard_line);
        let of_live = view.live_shards().iter().map(live_text::shard_readable);
        self.draw_shards(of_copy.chain(of_live));
    }

    fn draw_waiting(&mut self, reason: Option<&str>) {
        match reason {
            Some(reason) => {
                if self.waiting.is_hidden() {
                    self.waiting = self.text_line();
                }
                self.waiting.set_message(format!("waiting   {reason}"));
            }
            None => {
                self.waiting.finish_and_clear();
                self.waiting = ProgressBar::hidden();
            }
        }
    }

    fn draw_big_keys(&mut self, keys: &[Arc<BigKeyProgress>]) {
        for (index, key) in keys.iter().enumerate() {
            if index == self.big_keys.len() {
                self.big_keys.push(self.text_line());
            }
            let (elements, expected) = (key.elements(), key.elements_expected());
            self.big_keys[index].set_message(format!(
                "  {}  {}: {} of {} elements, {}",
                key.key_type(),
                key.key,
                size::show_count(elements),
                size::show_count(expected),
                size::show(key.bytes())
            ));
        }
        for line in self.big_keys.drain(keys.len()..) {
            line.finish_and_clear();
        }
    }

    fn draw_shards(&mut self, lines: impl Iterator<Item = String>) {
        let mut drawn = 0;
        for text in lines.take(SHARD_LINES_MAX) {
            if drawn == self.shards.len() {
                self.shards.push(self.text_line());
            }
            self.shards[drawn].set_message(format!("  {text}"));
            drawn += 1;
        }
        for line in self.shards.drain(drawn..) {
            line.finish_and_clear();
        }
    }

    fn text_line(&self) -> ProgressBar {
        let line = self.screen.bars().add(ProgressBar::new_spinner());
        line.set_style(style("{wide_msg}"));
        line
    }

    fn clear(&mut self) {
        for line in self.shards.drain(..).chain(self.big_keys.drain(..)) {
            line.finish_and_clear();
        }
        self.waiting.finish_and_clear();
        self.main.finish_and_clear();
    }
}

/// `10.0.0.1:6379  db 0: 1,000 keys found`
fn shard_line(shard: &ShardProgress) -> String {
    let keys = size::show_count(shard.keys_found);
    let end = if shard.done { ", all of it" } else { "" };
    format!("{}  db {}: {keys} keys found{end}", shard.node, shard.db)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: ShowOptions = ShowOptions {
        style: Style::Plain,
        with_shards: false,
        is_filtered: false,
        compares: false,
        follows: false,
    };

    fn snapshot() -> Snapshot {
        Snapshot {
            phase: Phase::Copying,
            keys_expected: 1000,
            keys_copied: 200,
            bytes_copied: 4096,
            ..Snapshot::default()
        }
    }

    fn plain(snapshot: &Snapshot, options: ShowOptions) -> String {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.add(start, 0, 0);
        View::new(
            snapshot,
            None,
            &mut rates,
            start + Duration::from_secs(2),
            options,
        )
        .plain()
    }

    #[test]
    fn plain_lines() {
        let filtered = ShowOptions {
            is_filtered: true,
            ..OPTIONS
        };
        let full = Snapshot {
            keys_skipped: 1,
            keys_gone: 2,
            keys_not_moved: 3,
            retries: 4,
            waiting: Some("target a:1 is full".into()),
            ..snapshot()
        };
        let verifying = Snapshot {
            phase: Phase::Verifying,
            keys_verified: 500,
            ..snapshot()
        };
        let comparison = ShowOptions {
            compares: true,
            ..OPTIONS
        };
        let compared = Snapshot {
            phase: Phase::Done,
            keys_expected: 2,
            keys_verified: 2,
            ..Snapshot::default()
        };
        let rows = [
            (
                plain(&compared, comparison),
                "state=done keys=2 keys_expected=2 bytes=0",
            ),
            (
                plain(&snapshot(), OPTIONS),
                "state=copying keys=200 keys_expected=1000 bytes=4096 rate=100 byte_rate=2048 eta=8",
            ),
            (
                plain(&snapshot(), filtered),
                "state=copying keys=200 bytes=4096 rate=100 byte_rate=2048",
            ),
            (
                plain(&full, filtered),
                "state=copying keys=206 bytes=4096 rate=103 byte_rate=2048 skipped=1 gone=2 \
                 not_moved=3 retries=4 waiting=\"target a:1 is full\"",
            ),
            (
                plain(&verifying, OPTIONS),
                "state=verifying keys=500 keys_expected=1000 bytes=4096 rate=250 eta=2",
            ),
            (
                plain(&Snapshot::default(), OPTIONS),
                "state=starting keys=0 bytes=0",
            ),
        ];
        for (got, expected) in rows {
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn lines_of_a_job_that_follows() {
        let live = live::tests::one_shard();
        let line = |phase: Phase| {
            let (start, mut rates) = (Instant::now(), Rates::default());
            rates.add(start, 50, 0);
            let now = start + Duration::from_secs(2);
            let followed = Snapshot {
                phase,
                retries: 1,
                ..snapshot()
            };
            View::new(&followed, Some(&live), &mut rates, now, OPTIONS).plain()
        };
        let pairs = "commands=70 rate=10 applied_offset=4000 spool=900 spool_disk=0 open=2 \
                     reread=3 full_resyncs=1 partial_resyncs=4 retries=1";
        assert_eq!(
            line(Phase::Following),
            format!("state=following lag_bytes=1000 lag_ms=12 keys=200 {pairs}")
        );
        // While it copies, it is told like any copy.
        assert!(line(Phase::Copying).starts_with("state=copying keys=200 keys_expected=1000"));
        let last = line(Phase::Stopped);
        assert!(last.starts_with("state=stopped lag_bytes=1000 "), "{last}");
        assert!(!last.contains(" rate="), "{last}");
    }

    #[test]
    fn more_keys_than_expected_are_no_error() {
        let grown = Snapshot {
            keys_copied: 5000,
            ..snapshot()
        };
        assert!(plain(&grown, OPTIONS).contains("keys=5000 keys_expected=5000"));
    }
}
