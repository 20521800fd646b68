//! Live jobs as a user runs them, and somebody who writes to the source meanwhile.

use std::time::Duration;

use keyhaul_testkit::{Server, wait_until};
use redis::{Connection, Value, cmd};

use super::copying::{Ran, run};
use super::running::Running;

/// Far above what any of these waits needs.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// Starts a job that follows without PSYNC.
pub(crate) fn start(source: &str, target: &str, options: &[&str]) -> Running {
    let mut all = vec!["--mode", "live", "--method", "scan"];
    all.extend(options);
    Running::start_planning(source, target, &all)
}

/// Waits until the keys that were there at the start are copied.
pub(crate) fn wait_until_following(running: &mut Running) {
    wait_until("it follows", SOON, || {
        let said = running.process.stderr_so_far();
        let states = ["state=following", "state=catching_up", "state=synced"];
        assert!(!said.contains("keyhaul: "), "it failed: {said}");
        states.iter().any(|state| said.contains(state))
    });
}

/// Ctrl-C: it applies what was done until now, and ends well.
#[track_caller]
pub(crate) fn stop(running: Running) -> Ran {
    running.process.interrupt();
    running.finish().exits_with(0)
}

/// Fails unless one of its remarks holds this text.
#[track_caller]
pub(crate) fn remarked(ran: &Ran, text: &str) {
    let remarks = ran.report["remarks"].as_array().expect("is a list");
    let holds =
        |remark: &serde_json::Value| remark.as_str().is_some_and(|line| line.contains(text));
    assert!(remarks.iter().any(holds), "'{text}': {remarks:?}");
}

/// Waits until all is applied, as it says itself from now on.
pub(crate) fn wait_until_synced(running: &mut Running) {
    let said = running.process.stderr_so_far().len();
    wait_until("it is synced", SOON, || {
        let now = running.process.stderr_so_far();
        now.get(said..)
            .is_some_and(|new| new.contains("state=synced"))
    });
}

/// Waits until a value that is written now has come over.
pub(crate) fn wait_for_marker(source: &Server, target: &Server, marker: &str) {
    run(source, 0, &format!("SET marker {marker}"));
    wait_until("a marker comes over", SOON, || {
        get(target, "marker").as_deref() == Some(marker)
    });
}

pub(crate) fn get(server: &Server, key: &str) -> Option<String> {
    // A server that is being restarted has no answer.
    cmd("GET")
        .arg(key)
        .query(&mut server.client())
        .unwrap_or_default()
}

/// Executes `count` random commands over all types in one db; errors (another type) are part of it.
pub(crate) fn churn(client: &mut Connection, seed: u64, count: usize) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..count {
        let words = command(&mut random);
        let mut command = cmd(&words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        let _: Result<Value, _> = command.query(client);
    }
}

/// xorshift64
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % limit
    }
}

fn command(random: &mut Random) -> Vec<String> {
    const COMMANDS: &[&str] = &[
        "SET s:K V",
        "SET s:K V EX 1000",
        "APPEND s:K V",
        "SETRANGE s:K N V",
        "INCR n:K",
        "INCRBYFLOAT n:K 0.5",
        "SETBIT b:K N 1",
        "BITOP OR b:K b:J b:K",
        "GETDEL s:K",
        "GETEX s:K PX 500000",
        "MSET s:K V s:J V",
        "LPUSH l:K V V",
        "RPUSH l:K V",
        "LPOP l:K",
        "LSET l:K 0 V",
        "LTRIM l:K 0 20",
        "LMOVE l:K l:J LEFT RIGHT",
        "LINSERT l:K BEFORE V V",
        "SADD m:K V V",
        "SREM m:K V",
        "SPOP m:K",
        "SMOVE m:K m:J V",
        "SUNIONSTORE m:K m:J m:K",
        "ZADD z:K N V",
        "ZINCRBY z:K 1.5 V",
        "ZREM z:K V",
        "ZPOPMIN z:K",
        "ZREMRANGEBYRANK z:K 0 1",
        "HSET h:K V V",
        "HDEL h:K V",
        "HINCRBY h:K n 3",
        "XADD x:K * f V",
        "XTRIM x:K MAXLEN 20",
        "XGROUP CREATE x:K g 0 MKSTREAM",
        "XREADGROUP GROUP g c COUNT 3 STREAMS x:K >",
        "XREADGROUP GROUP g d COUNT 2 STREAMS x:K >",
        "XAUTOCLAIM x:K g e 0 0 COUNT 2",
        "XGROUP DESTROY x:K g",
        "XGROUP SETID x:K g 0",
        "XSETID x:K 9999999999999-1",
        "PFADD p:K V V",
        "GEOADD g:K 13.3 38.1 V",
        "RENAME s:K s:J",
        "RENAME h:K l:K",
        "COPY z:K z:J REPLACE",
        "DEL s:K",
        "UNLINK h:K",
        "DEL x:K",
        "EXPIRE h:K 2000",
        "PERSIST s:K",
        "PEXPIRE l:K 30",
        "MOVE m:K 3",
        "SORT l:K ALPHA STORE l:J",
        "EVAL return(redis.call('SET','s:K','V')) 1 s:K",
    ];
    let template = COMMANDS[random.below(COMMANDS.len())];
    let mut word = |word: &str| {
        let number = random.below(40);
        match word {
            "V" => format!("v{}", number * 37 % 29),
            "N" => number.to_string(),
            _ => word
                .replace('K', &number.to_string())
                .replace('J', &(number / 3).to_string()),
        }
    };
    // Names of commands hold these letters too.
    template
        .split(' ')
        .enumerate()
        .map(
            |(place, text)| match place == 0 || text.len() > 3 && !text.contains(':') {
                true => text.to_owned(),
                false => word(text),
            },
        )
        .collect()
}
