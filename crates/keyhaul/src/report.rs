//! The report in JSON: the same facts as the summary, for programs, with every key that was not
//! moved. docs/guide/report.md describes it; adding a field? also describe it there.

use std::cell::RefCell;
use std::io;

use keyhaul_engine::receipt::{Receipt, VerifyCounts};
use keyhaul_engine::stats::NotMoved;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::exit::Exit;
use crate::live::json::LiveJson;
use crate::receipt::Ends;

/// The number of the schema; grows when a field goes or changes its meaning, not when one is added.
pub(crate) const SCHEMA: u32 = 1;

/// The report. The order of the fields is that of the file.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    schema: u32,
    keyhaul: &'static str,
    outcome: &'static str,
    exit_code: u8,
    error: Option<String>,
    source: &'a str,
    target: &'a str,
    counts: Counts,
    bytes: u64,
    file_bytes: Option<u64>,
    seconds: Seconds,
    verify: Option<Verify<'a>>,
    live: Option<LiveJson>,
    functions: u64,
    remarks: &'a [String],
    warnings: &'a [String],
    not_moved: NotMovedSeq<'a>,
}

#[derive(Serialize, Default)]
struct Counts {
    found: u64,
    copied: u64,
    chunked: u64,
    skipped: u64,
    gone: u64,
    not_moved: u64,
    retries: u64,
}

#[derive(Serialize, Default)]
struct Seconds {
    total: f64,
    copy: f64,
    verify: f64,
}

#[derive(Serialize)]
struct Verify<'a> {
    checked: u64,
    same: u64,
    missing: u64,
    type_differs: u64,
    value_differs: u64,
    expiry_differs: u64,
    errors: u64,
    listed_as_not_moved: u64,
    unexplained: u64,
    examples: &'a [String],
}

/// The keys that were not moved, read from their list while they are written: never all in memory.
struct NotMovedSeq<'a>(Option<RefCell<&'a mut NotMoved>>);

impl<'a> Report<'a> {
    /// Of a job that ran.
    pub(crate) fn of_receipt(
        ends: &'a Ends,
        warnings: &'a [String],
        receipt: &'a mut Receipt,
        exit: Exit,
    ) -> Self {
        use keyhaul_engine::receipt::Outcome;
        let error = match &receipt.outcome {
            Outcome::Stopped(reason) => Some(reason.clone()),
            Outcome::Done | Outcome::Different | Outcome::NotAllMoved => None,
        };
        let (copy, verify) = (
            receipt.copy_time.as_secs_f64(),
            receipt.verify_time.as_secs_f64(),
        );
        Self {
            error,
            warnings,
            counts: Counts {
                found: receipt.keys_found,
                copied: receipt.keys_copied,
                chunked: receipt.keys_chunked,
                skipped: receipt.keys_skipped,
                gone: receipt.keys_gone,
                not_moved: receipt.not_moved.count,
                retries: receipt.retries,
            },
            bytes: receipt.bytes_copied,
            file_bytes: receipt.file_bytes,
            seconds: Seconds {
                total: copy + verify,
                copy,
                verify,
            },
            verify: receipt.verify.as_ref().map(Verify::of),
            live: receipt.live.as_ref().map(LiveJson::of),
            functions: receipt.functions_copied,
            remarks: &receipt.remarks,
            not_moved: NotMovedSeq(Some(RefCell::new(&mut receipt.not_moved))),
            ..Self::empty(ends, exit, outcome_name(exit))
        }
    }

    /// Of a job that never began: refused, or stopped while both ends were probed.
    pub(crate) fn of_refusal(ends: &'a Ends, exit: Exit, error: String) -> Self {
        Self {
            error: Some(error),
            ..Self::empty(ends, exit, outcome_name(exit))
        }
    }

    /// Of a plan that was only to be shown.
    pub(crate) fn of_plan(ends: &'a Ends, warnings: &'a [String]) -> Self {
        Self {
            warnings,
            ..Self::empty(ends, Exit::Done, "planned")
        }
    }

    fn empty(ends: &'a Ends, exit: Exit, outcome: &'static str) -> Self {
        Self {
            schema: SCHEMA,
            keyhaul: env!("CARGO_PKG_VERSION"),
            outcome,
            exit_code: exit.code(),
            error: None,
            source: &ends.source,
            target: &ends.target,
            counts: Counts::default(),
            bytes: 0,
            file_bytes: None,
            seconds: Seconds::default(),
            verify: None,
            live: None,
            functions: 0,
            remarks: &[],
            warnings: &[],
            not_moved: NotMovedSeq(None),
        }
    }
}

fn outcome_name(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "done",
        Exit::Different => "different",
        Exit::NotAllMoved => "not_all_moved",
        Exit::Stopped => "stopped",
        Exit::Usage | Exit::Refused => "refused",
    }
}

impl<'a> Verify<'a> {
    fn of(counts: &'a VerifyCounts) -> Self {
        Self {
            checked: counts.checked,
            same: counts.same,
            missing: counts.missing,
            type_differs: counts.type_differs,
            value_differs: counts.value_differs,
            expiry_differs: counts.expiry_differs,
            errors: counts.errors,
            listed_as_not_moved: counts.listed_as_not_moved,
            unexplained: counts.unexplained(),
            examples: &counts.examples,
        }
    }
}

impl Serialize for NotMovedSeq<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        if let Some(not_moved) = &self.0 {
            let each = |key| {
                list.serialize_element(&key)
                    .map_err(|e| io::Error::other(e.to_string()))
            };
            not_moved
                .borrow_mut()
                .for_each(each)
                .map_err(S::Error::custom)?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use keyhaul_engine::receipt::Outcome;
    use keyhaul_engine::stats::NotMovedList;

    use super::*;
    use crate::output_file::OutputFile;

    fn ends() -> Ends {
        Ends {
            source: "redis://a:1".into(),
            target: "redis://b:1".into(),
        }
    }

    fn receipt(not_moved_count: u32) -> Receipt {
        let list = NotMovedList::default();
        for n in 0..not_moved_count {
            list.add(3, format!("k{n}\n").as_bytes(), "too \"large\"".into());
        }
        Receipt {
            outcome: Outcome::NotAllMoved,
            keys_found: 10,
            keys_copied: 7,
            keys_chunked: 0,
            keys_skipped: 0,
            keys_gone: 1,
            bytes_copied: 99,
            retries: 2,
            functions_copied: 1,
            file_bytes: None,
            copy_time: Duration::from_millis(1500),
            verify_time: Duration::from_millis(500),
            verify: Some(VerifyCounts::default()),
            not_moved: list.finish(),
            saved: None,
            live: Some(crate::live::tests::one_shard()),
            remarks: vec!["r".into()],
        }
    }

    fn read(path: &Path) -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn every_key_is_in_it_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        fs::write(&path, "older").unwrap();
        let file = OutputFile::check("--report", &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "older");
        let (ends, warnings, mut receipt) = (ends(), ["w".to_owned()], receipt(1000));
        file.write_json(&Report::of_receipt(
            &ends,
            &warnings,
            &mut receipt,
            Exit::NotAllMoved,
        ))
        .unwrap();
        let json = read(&path);
        for (field, expected) in [
            ("outcome", serde_json::json!("not_all_moved")),
            ("exit_code", 4.into()),
            ("error", serde_json::Value::Null),
            ("source", "redis://a:1".into()),
            ("bytes", 99.into()),
            (
                "seconds",
                serde_json::json!({"total": 2.0, "copy": 1.5, "verify": 0.5}),
            ),
            ("remarks", serde_json::json!(["r"])),
            ("warnings", serde_json::json!(["w"])),
            ("functions", 1.into()),
        ] {
            assert_eq!(json[field], expected, "{field}");
        }
        assert_eq!(json["live"]["shards"][0]["applied_offset"], 4000);
        assert_eq!(json["counts"]["not_moved"], 1000);
        assert_eq!(json["not_moved"].as_array().unwrap().len(), 1000);
        let expected = serde_json::json!({"db": 3, "key": "k999\\x0A", "reason": "too \"large\""});
        assert_eq!(json["not_moved"][999], expected);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_refusal_has_a_report_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        let file = OutputFile::check("--report", &path).unwrap();
        assert!(!path.exists());
        file.write_json(&Report::of_refusal(&ends(), Exit::Refused, "no".into()))
            .unwrap();
        let json = read(&path);
        assert_eq!(
            (&json["outcome"], &json["error"]),
            (&"refused".into(), &"no".into())
        );
        assert_eq!(json["not_moved"], serde_json::json!([]));
    }
}
