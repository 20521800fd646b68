//! The report of a comparison in JSON, with every key that differs. docs/guide/report.md describes it; adding a
//! field? also describe it there.

use std::io;

use keyhaul_engine::compare::options::{CompareCounts, CompareReceipt, RepairCounts};
use keyhaul_engine::receipt::Outcome;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::compare::summary::is_not_known;
use crate::compare::told::Told;
use crate::exit::Exit;
use crate::receipt::Ends;
use crate::report::SCHEMA;

/// The report. The order of the fields is that of the file.
#[derive(Serialize)]
pub(crate) struct CompareReport<'a> {
    schema: u32,
    keyhaul: &'static str,
    outcome: &'static str,
    exit_code: u8,
    error: Option<String>,
    source: &'a str,
    target: &'a str,
    counts: AllCounts,
    seconds: Seconds,
    earlier: Option<Earlier>,
    before_repair: Option<Counts>,
    repaired: Option<Repaired>,
    functions: &'a [String],
    remarks: &'a [String],
    warnings: &'a [String],
    differences: Differences<'a>,
}

#[derive(Serialize, Default)]
struct AllCounts {
    #[serde(flatten)]
    of_keys: Counts,
    retries: u64,
}

#[derive(Serialize, Default)]
struct Counts {
    checked: u64,
    same: u64,
    missing: u64,
    extra: u64,
    type_differs: u64,
    value_differs: u64,
    expiry_differs: u64,
    unsettled: u64,
    errors: u64,
    functions_differ: u64,
    functions_unknown: bool,
}

#[derive(Serialize, Default)]
struct Seconds {
    total: f64,
}

/// An earlier run that this one went on from.
#[derive(Serialize)]
struct Earlier {
    keys_same: u64,
    seconds_ago: f64,
}

#[derive(Serialize)]
struct Repaired {
    dry_run: bool,
    copied: u64,
    deleted: u64,
    left: u64,
    functions_copied: u64,
    functions_deleted: u64,
}

/// Read from their file while they are written: never all in memory.
struct Differences<'a> {
    told: Option<&'a Told>,
    is_repaired: bool,
}

/// What a report says of a comparison beside its receipt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) ends: &'a Ends,
    pub(crate) warnings: &'a [String],
    pub(crate) told: &'a Told,
    pub(crate) exit: Exit,
    /// Of the repair.
    pub(crate) is_dry_run: bool,
}

impl<'a> CompareReport<'a> {
    /// Of a comparison that ran.
    pub(crate) fn of_receipt(receipt: &'a CompareReceipt, facts: Facts<'a>) -> Self {
        let error = match &receipt.outcome {
            Outcome::Stopped(reason) => Some(reason.clone()),
            Outcome::Done | Outcome::Different | Outcome::NotAllMoved => None,
        };
        // By the receipt: that a diff file was lost changes the exit code, not what was found.
        let outcome = match Exit::of_comparison(receipt) {
            Exit::Done => "equal",
            Exit::Stopped => "stopped",
            _ if is_not_known(receipt) => "not_known",
            _ => "different",
        };
        Self {
            error,
            counts: AllCounts {
                of_keys: Counts::of(&receipt.counts),
                retries: receipt.retries,
            },
            seconds: Seconds {
                total: receipt.time.as_secs_f64(),
            },
            before_repair: receipt.before_repair.as_ref().map(Counts::of),
            repaired: (receipt.repaired.as_ref())
                .map(|counts| Repaired::of(counts, facts.is_dry_run)),
            functions: &receipt.functions,
            remarks: &receipt.remarks,
            warnings: facts.warnings,
            earlier: receipt.earlier.map(|earlier| Earlier {
                keys_same: earlier.keys_same,
                seconds_ago: earlier.ago.as_secs_f64(),
            }),
            differences: Differences {
                told: Some(facts.told),
                is_repaired: receipt.before_repair.is_some(),
            },
            ..Self::empty(facts.ends, facts.exit, outcome)
        }
    }

    /// Of a comparison that never began: refused, or stopped while both ends were probed.
    pub(crate) fn of_refusal(ends: &'a Ends, exit: Exit, error: String) -> Self {
        let outcome = match exit {
            Exit::Stopped => "stopped",
            _ => "refused",
        };
        Self {
            error: Some(error),
            ..Self::empty(ends, exit, outcome)
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
            counts: AllCounts::default(),
            seconds: Seconds::default(),
            before_repair: None,
            repaired: None,
            functions: &[],
            remarks: &[],
            warnings: &[],
            earlier: None,
            differences: Differences {
                told: None,
                is_repaired: false,
            },
        }
    }
}

impl Counts {
    fn of(counts: &CompareCounts) -> Self {
        let CompareCounts {
            checked,
            same,
            missing,
            extra,
            type_differs,
            value_differs,
            expiry_differs,
            unsettled,
            errors,
            functions_differ,
            functions_unknown,
        } = *counts;
        Self {
            checked,
            same,
            missing,
            extra,
            type_differs,
            value_differs,
            expiry_differs,
            unsettled,
            errors,
            functions_differ,
            functions_unknown,
        }
    }
}

impl Repaired {
    fn of(counts: &RepairCounts, dry_run: bool) -> Self {
        let RepairCounts {
            copied,
            deleted,
            left,
            functions_copied,
            functions_deleted,
        } = *counts;
        Self {
            dry_run,
            copied,
            deleted,
            left,
            functions_copied,
            functions_deleted,
        }
    }
}

impl Serialize for Differences<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        if let Some(told) = self.told {
            let each = |difference| {
                list.serialize_element(&difference)
                    .map_err(|e| io::Error::other(e.to_string()))
            };
            told.differences(self.is_repaired, each)
                .map_err(S::Error::custom)?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use keyhaul_engine::compare::Listener;
    use keyhaul_engine::compare::options::{KeyDiff, Mark};
    use serde_json::json;

    use super::*;

    fn ends() -> Ends {
        Ends {
            source: "redis://a:1".into(),
            target: "redis://b:1".into(),
        }
    }

    fn receipt(outcome: Outcome, counts: CompareCounts) -> CompareReceipt {
        CompareReceipt {
            outcome,
            counts,
            before_repair: None,
            repaired: None,
            examples: Vec::new(),
            functions: Vec::new(),
            earlier: None,
            saved: None,
            retries: 1,
            time: Duration::from_millis(1500),
            remarks: vec!["r".into()],
        }
    }

    fn json_of(receipt: &CompareReceipt, told: &Told) -> serde_json::Value {
        let (ends, warnings) = (ends(), ["w".to_owned()]);
        let facts = Facts {
            ends: &ends,
            warnings: &warnings,
            told,
            exit: Exit::of_comparison(receipt),
            is_dry_run: true,
        };
        serde_json::to_value(CompareReport::of_receipt(receipt, facts)).unwrap()
    }

    #[test]
    fn every_difference_is_in_it() {
        let told = Told::new(
            None,
            Some(std::array::from_fn(|_| tempfile::tempfile().unwrap())),
            false,
        )
        .unwrap();
        for n in 0..1000_u32 {
            told.found(KeyDiff {
                mark: if n % 2 == 0 {
                    Mark::Different
                } else {
                    Mark::Same
                },
                db: 3,
                key: Bytes::from(format!("k{n}\n")),
                what: "value differs".into(),
                inside: vec!["position 0".into()],
            });
        }
        let counts = CompareCounts {
            checked: 1000,
            same: 500,
            value_differs: 500,
            ..CompareCounts::default()
        };
        let repaired = RepairCounts {
            copied: 500,
            ..RepairCounts::default()
        };
        let receipt = CompareReceipt {
            repaired: Some(repaired),
            ..receipt(Outcome::Different, counts)
        };
        let json = json_of(&receipt, &told);
        for (field, expected) in [
            ("outcome", json!("different")),
            ("exit_code", json!(1)),
            ("error", json!(null)),
            ("seconds", json!({"total": 1.5})),
            ("before_repair", json!(null)),
            (
                "repaired",
                json!({"dry_run": true, "copied": 500, "deleted": 0, "left": 0,
                       "functions_copied": 0, "functions_deleted": 0}),
            ),
            ("remarks", json!(["r"])),
            ("warnings", json!(["w"])),
        ] {
            assert_eq!(json[field], expected, "{field}");
        }
        assert_eq!(json["counts"]["value_differs"], 500);
        assert_eq!(json["counts"]["retries"], 1);
        assert_eq!(json["differences"].as_array().unwrap().len(), 500);
        let expected = json!({
            "mark": "*", "db": 3, "key": "k998\\x0A", "what": "value differs", "inside": ["position 0"]
        });
        assert_eq!(json["differences"][499], expected);
    }

    #[test]
    fn outcomes() {
        let same = CompareCounts {
            checked: 1,
            same: 1,
            ..CompareCounts::default()
        };
        let unsettled = CompareCounts {
            checked: 1,
            unsettled: 1,
            ..CompareCounts::default()
        };
        let told = Told::new(None, None, false).unwrap();
        for (receipt, outcome, code) in [
            (receipt(Outcome::Done, same.clone()), "equal", 0),
            (receipt(Outcome::Different, unsettled), "not_known", 1),
            (receipt(Outcome::Stopped("x".into()), same), "stopped", 5),
        ] {
            let json = json_of(&receipt, &told);
            assert_eq!(
                (&json["outcome"], &json["exit_code"]),
                (&json!(outcome), &json!(code))
            );
        }
        let ends = ends();
        let refused = CompareReport::of_refusal(&ends, Exit::Refused, "no".into());
        let json = serde_json::to_value(refused).unwrap();
        assert_eq!(
            (&json["outcome"], &json["error"]),
            (&json!("refused"), &json!("no"))
        );
        let planned = serde_json::to_value(CompareReport::of_plan(&ends, &[])).unwrap();
        assert_eq!(
            (&planned["outcome"], &planned["exit_code"]),
            (&json!("planned"), &json!(0))
        );
    }
}
