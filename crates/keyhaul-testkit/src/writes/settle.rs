//! Waiting until nothing is about to expire, so that two sides can be compared at rest.

use std::time::Duration;

use redis::{Connection, Value, cmd};

use super::asked::write_commands;
use super::place::Place;
use crate::wait_until;

/// What has less to live is waited for, ms: the short times of the random writes end below, the long ones begin
/// above.
const SHORT_MS: i64 = 10_000;
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until no key and no hash field of the place has less than ten seconds to live. Writes must have ended.
///
/// # Panics
/// If that takes more than half a minute.
pub fn wait_until_short_lived_are_gone(place: &Place) {
    let knows_fields = write_commands(&place.nodes()[0]).has("hpexpire");
    wait_until("short-lived keys expire", DEADLINE, || {
        // A replica in a cluster answers nothing, and deletes nothing by itself.
        place.serving().iter().all(|node| {
            let mut connection = node.connection(0);
            dbs(&mut connection)
                .into_iter()
                .all(|db| at_rest(&mut node.connection(db), knows_fields))
        })
    });
}

fn at_rest(connection: &mut Connection, knows_fields: bool) -> bool {
    let short = |ttl_ms: i64| (0..SHORT_MS).contains(&ttl_ms);
    let mut cursor = 0_u64;
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query(connection).expect("SCAN");
        for key in &keys {
            let ttl_ms: i64 = cmd("PTTL").arg(key).query(connection).expect("PTTL");
            if short(ttl_ms) {
                return false;
            }
            if knows_fields && field_ttls_ms(connection, key).into_iter().any(short) {
                return false;
            }
        }
        cursor = next;
        if cursor == 0 {
            return true;
        }
    }
}

/// The times to live of the fields of a hash; of another type, none.
fn field_ttls_ms(connection: &mut Connection, key: &[u8]) -> Vec<i64> {
    let fields: Vec<Vec<u8>> = match cmd("HKEYS").arg(key).query(connection) {
        Ok(fields) => fields,
        Err(_) => return Vec::new(),
    };
    if fields.is_empty() {
        return Vec::new();
    }
    let mut ask = cmd("HPTTL");
    ask.arg(key).arg("FIELDS").arg(fields.len()).arg(&fields);
    match ask.query(connection).expect("HPTTL") {
        Value::Nil => Vec::new(),
        reply => redis::from_redis_value(reply).expect("numbers"),
    }
}

/// The dbs that hold keys.
fn dbs(connection: &mut Connection) -> Vec<u32> {
    let info: String = cmd("INFO")
        .arg("keyspace")
        .query(connection)
        .expect("INFO is answered");
    let number = |line: &str| line.strip_prefix("db")?.split_once(':')?.0.parse().ok();
    info.lines().filter_map(number).collect()
}
