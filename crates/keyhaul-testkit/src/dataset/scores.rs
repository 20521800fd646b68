//! Sorted sets: ordinary ones, those with every odd score, and geo sets.

use rand::RngExt;
use rand::rngs::StdRng;
use redis::{Cmd, cmd};

use super::strings::chunked;

/// Infinities, both zeros, the limits of doubles and of exact integers, 17 digits, denormals.
const ODD_SCORES: [&str; 20] = [
    "inf",
    "-inf",
    "0",
    "-0.0",
    "1e308",
    "-1.7976931348623157e308",
    "2.2250738585072014e-308",
    "5e-324",
    "-5e-324",
    "0.1",
    "0.30000000000000004",
    "3.1415926535897931",
    "1.0000000000000002",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740991",
    "123456789012345680000",
    "1e-7",
    "1.5",
    "9223372036854775807",
];

/// Members with every odd score, and `fillers` more so that the set takes its large encoding. The
/// fillers come first: from 7.0 on, -0 loses its sign in the compact encoding.
pub(super) fn odd_scores(key: &[u8], fillers: usize) -> Vec<Cmd> {
    let odd = ODD_SCORES
        .iter()
        .map(|score| (score.to_string(), format!("score {score}")));
    let fillers = (0..fillers).map(|index| (index.to_string(), format!("filler {index}")));
    let args: Vec<Vec<u8>> = fillers
        .chain(odd)
        .flat_map(|(score, member)| [score.into_bytes(), member.into_bytes()])
        .collect();
    chunked("ZADD", key, &args)
}

/// Ordinary doubles, and members that share a score.
pub(super) fn zset(key: &[u8], count: usize, rng: &mut StdRng) -> Vec<Cmd> {
    let args: Vec<Vec<u8>> = (0..count)
        .flat_map(|index| {
            let score = match index % 3 {
                0 => "7".into(),
                1 => rng.random_range(-1e6..1e6_f64).to_string(),
                _ => rng.random_range(-1_000_000..1_000_000_i32).to_string(),
            };
            [score.into_bytes(), format!("member{index}").into_bytes()]
        })
        .collect();
    chunked("ZADD", key, &args)
}

pub(super) fn geo(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let mut command = cmd("GEOADD");
    command.arg(key);
    for index in 0..10 {
        let (longitude, latitude) = (
            rng.random_range(-179.0..179.0),
            rng.random_range(-85.0..85.0),
        );
        command
            .arg::<f64>(longitude)
            .arg::<f64>(latitude)
            .arg(format!("place{index}"));
    }
    vec![command]
}
