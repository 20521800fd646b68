//! Jobs that die or are stopped inside big keys: the same command goes on, and leaves nothing behind.

mod common;

use std::time::Duration;

use common::big::{Job, KINDS, Kind, Marked, Seen, Underway, net_input, same, staging_keys};
use common::copying::{key_count, run};
use keyhaul_testkit::{Server, Version};

/// Slow enough to be in the middle of a key for some seconds.
const SLOWLY: [&str; 6] = [
    "--chunk-threshold",
    "100kb",
    "--chunk-size",
    "50",
    "--rate-limit",
    "500kb",
];

/// The same for a string, whose chunks are of 1 MB: [`ends`] makes it longer.
const TEXT_SLOWLY: [&str; 6] = [
    "--chunk-threshold",
    "100kb",
    "--chunk-size",
    "50",
    "--rate-limit",
    "2mb",
];

fn slowly(kind: Kind) -> [&'static str; 6] {
    if kind == Kind::Text {
        TEXT_SLOWLY
    } else {
        SLOWLY
    }
}

struct Ends {
    source: Server,
    target: Server,
    all: Vec<Marked>,
    input_before: u64,
}

/// 1.5 MB of each of these types; 6 MB of a string.
fn ends(kinds: &[Kind]) -> Ends {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    let marked = |kind: &Kind| {
        let elements = if *kind == Kind::Text { 60_000 } else { 3000 };
        let marked = Marked::new(*kind, elements, 500);
        marked.make(&mut source.client(), 1);
        marked
    };
    let all = kinds.iter().map(marked).collect();
    let input_before = net_input(&target);
    Ends {
        source,
        target,
        all,
        input_before,
    }
}

impl Ends {
    fn job(&self, options: &[&str]) -> Job {
        Job::replicate(&self.source.uri(), &self.target.uri(), options)
    }

    fn bytes(&self) -> u64 {
        self.all.iter().map(Marked::bytes).sum()
    }

    /// Bytes that the target has read from all runs.
    fn input(&self) -> u64 {
        net_input(&self.target) - self.input_before
    }

    /// Starts it and waits until so many percent have arrived.
    #[track_caller]
    fn start(&self, job: &Job, percent: u64) -> Underway {
        let before = net_input(&self.target);
        let underway = job.start();
        underway.wait_input(&self.target, before, self.bytes() * percent / 100);
        underway
    }

    #[track_caller]
    fn kill(&self, job: &Job, percent: u64) {
        let underway = self.start(job, percent);
        underway.wait_until("there is a checkpoint", || !job.checkpoints().is_empty());
        underway.process.kill();
        assert_eq!(underway.finish().outcome.signal, Some(9));
        assert!(!staging_keys(&self.target).is_empty(), "nothing is staged");
    }

    #[track_caller]
    fn ends_equal(&self, job: &Job) {
        job.ends(&[&self.target], 0);
        same(&self.source, &self.target);
    }

    #[track_caller]
    fn assert_input_below(&self, percent: u64) {
        let (input, limit) = (self.input(), self.bytes() * percent / 100);
        assert!(
            input < limit,
            "{input} of at most {limit} bytes: {:?}",
            self.all
        );
    }
}

/// Runs this for each type at the same time: most of it is waiting.
fn for_each_kind(check: impl Fn(Kind) + Send + Copy + 'static) {
    let threads = KINDS.map(|kind| std::thread::spawn(move || check(kind)));
    let failed: Vec<Kind> = KINDS
        .into_iter()
        .zip(threads)
        .filter_map(|(kind, thread)| thread.join().is_err().then_some(kind))
        .collect();
    assert_eq!(failed, []);
}

#[test]
fn killed_late_it_copies_little_twice() {
    for_each_kind(|kind| {
        let ends = ends(&[kind]);
        let job = ends.job(&slowly(kind));
        ends.kill(&job, 75);
        ends.ends_equal(&job);
        // From the beginning it would be 175.
        ends.assert_input_below(160);
    });
}

#[test]
fn killed_twenty_times_in_a_row() {
    let ends = ends(&KINDS);
    let options = [
        "--chunk-threshold",
        "100kb",
        "--chunk-size",
        "50",
        "--rate-limit",
        "3mb",
    ];
    let job = ends.job(&options);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut killed = 0;
    for _ in 0..20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let underway = job.start();
        std::thread::sleep(Duration::from_millis(20 + state % 400));
        underway.process.kill();
        match underway.finish().outcome.signal {
            Some(9) => killed += 1,
            _ => break,
        }
        for marked in &ends.all {
            let seen = marked.look(&mut ends.target.client());
            assert!(matches!(seen, Seen::Absent | Seen::Whole(1)), "{seen:?}");
        }
    }
    assert!(killed >= 10, "killed {killed} times only");
    ends.ends_equal(&job);
    // Each kill may cost two chunks of 1 MB that were on their way.
    ends.assert_input_below(400);
}

#[test]
fn big_keys_goes_on_too() {
    let ends = ends(&[Kind::Hash, Kind::List]);
    let options = [&SLOWLY[..], &["--mem-limit", "100kb"]].concat();
    let job = Job::big_keys(&ends.source.uri(), &ends.target.uri(), &options);
    for _ in 0..2 {
        ends.kill(&job, 35);
    }
    ends.ends_equal(&job);
    ends.assert_input_below(155);
}

#[test]
fn an_interrupt_says_what_is_saved_and_how_to_go_on() {
    for_each_kind(|kind| {
        let ends = ends(&[kind]);
        let job = ends.job(&slowly(kind));
        let underway = ends.start(&job, 60);
        underway.process.interrupt();
        let ran = underway.finish().exits_with(5);
        let text = ran.outcome.stdout.to_lowercase();
        assert!(text.contains("same command"), "{ran:#?}");
        assert!(
            text.contains("saved") || text.contains("checkpoint"),
            "{ran:#?}"
        );
        assert!(!text.contains("starts over"), "{ran:#?}");
        assert_eq!(ends.all[0].look(&mut ends.target.client()), Seen::Absent);
        ends.ends_equal(&job);
        ends.assert_input_below(130);
    });
}

#[test]
fn restart_begins_anew_and_leaves_nothing() {
    let ends = ends(&[Kind::Zset]);
    let job = ends.job(&SLOWLY);
    ends.kill(&job, 70);
    job.start_with(&["--restart"]).finish().exits_with(0);
    job.left_nothing(&[&ends.target]);
    same(&ends.source, &ends.target);
    assert!(ends.input() > ends.bytes() * 160 / 100, "it went on");
}

#[test]
fn the_same_job_twice_at_the_same_time_is_refused() {
    let ends = ends(&[Kind::Set]);
    let job = ends.job(&SLOWLY);
    let first = ends.start(&job, 20);
    let second = job.start().finish();
    assert_eq!(second.outcome.code, Some(3), "{second:#?}");
    assert_eq!(
        second.outcome.stderr.trim_end().lines().count(),
        1,
        "{second:#?}"
    );
    first.finish().exits_with(0);
    job.left_nothing(&[&ends.target]);
    same(&ends.source, &ends.target);
}

/// Kills it in the middle, does something, and ends it.
fn after_a_kill(kind: Kind, change: impl Fn(&mut Ends, &Job)) {
    let mut ends = ends(&[kind]);
    let mut options = slowly(kind);
    options[5] = if kind == Kind::Text { "4mb" } else { "1mb" };
    let job = ends.job(&options);
    ends.kill(&job, 40);
    change(&mut ends, &job);
    ends.ends_equal(&job);
}

#[test]
fn a_key_that_has_changed_between_is_no_mixture() {
    for_each_kind(|kind| {
        after_a_kill(kind, |ends, _| {
            ends.all[0].advance(&mut ends.source.client(), 1, 2);
        });
    });
}

#[test]
fn a_key_that_is_gone_between() {
    after_a_kill(Kind::List, |ends, _| {
        run(&ends.source, 0, "FLUSHALL");
    });
}

#[test]
fn a_key_that_is_another_between() {
    after_a_kill(Kind::Hash, |ends, _| {
        run(&ends.source, 0, &format!("SET {} small", ends.all[0].key));
    });
}

#[test]
fn a_source_that_has_restarted_between() {
    for_each_kind(|kind| {
        after_a_kill(kind, |ends, _| {
            ends.source.shutdown_save();
            ends.source.restart();
        });
    });
}

#[test]
fn a_target_that_has_restarted_between_with_its_data() {
    after_a_kill(Kind::List, |ends, _| {
        ends.target.shutdown_save();
        ends.target.restart();
    });
}

#[test]
fn a_target_that_has_restarted_between_without_its_data() {
    after_a_kill(Kind::Text, |ends, _| {
        ends.target.stop();
        ends.target.restart();
        assert_eq!(key_count(&ends.target), 0);
    });
}

#[test]
fn staging_keys_that_were_touched_or_removed_between() {
    for_each_kind(|kind| {
        let touch = match kind {
            Kind::List => "RPUSH KEY more",
            Kind::Text => "APPEND KEY more",
            Kind::Set => "RENAME KEY elsewhere",
            _ => "DEL KEY",
        };
        after_a_kill(kind, |ends, _| {
            for (_, name) in staging_keys(&ends.target) {
                run(&ends.target, 0, &touch.replace("KEY", &name));
            }
            run(&ends.target, 0, "DEL elsewhere");
        });
    });
}

type Damage = fn(Vec<u8>) -> Vec<u8>;

const DAMAGES: [Damage; 6] = [
    |_| Vec::new(),
    |bytes| bytes[..bytes.len() / 2].to_vec(),
    |bytes| bytes[..bytes.len() - 1].to_vec(),
    |_| vec![0; 100_000],
    |_| b"no checkpoint at all {}[]\"".to_vec(),
    |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        bytes
    },
];

#[test]
fn a_damaged_checkpoint_is_no_reason_to_fail() {
    let threads = DAMAGES.map(|damage| {
        std::thread::spawn(move || {
            after_a_kill(Kind::Hash, |_, job| {
                for path in job.checkpoints() {
                    let bytes = std::fs::read(&path).expect("is a file");
                    std::fs::write(&path, damage(bytes)).expect("can be written");
                }
            });
        })
    });
    for (number, thread) in threads.into_iter().enumerate() {
        assert!(thread.join().is_ok(), "damage {number}");
    }
}

#[test]
fn a_lost_checkpoint_is_a_new_beginning() {
    // Without it nobody knows the job's staging keys, but their names tell whose they are.
    after_a_kill(Kind::List, |_, job| {
        std::fs::remove_dir_all(job.state_dir()).expect("is there");
    });
}

#[test]
fn a_state_folder_that_cannot_be_written() {
    let ends = ends(&[Kind::Hash]);
    let job = ends.job(&["--chunk-threshold", "100kb"]);
    std::fs::write(job.state_dir(), "a file").expect("can be written");
    let ran = job.run();
    assert!(matches!(ran.outcome.code, Some(2 | 3)), "{ran:#?}");
    assert!(ran.outcome.stderr.contains("state"), "{ran:#?}");
    assert_eq!(ran.outcome.stderr.trim_end().lines().count(), 1, "{ran:#?}");
    assert_eq!(key_count(&ends.target), 0);
}
