//! The report as JSON, on one line: with all slots and keys it would be a hundred thousand.

use std::io::{self, Write};

use keyhaul_engine::stats::report::Report;

/// Writes the report and a line feed.
pub(crate) fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer(&mut *out, report)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystats::sample;

    #[test]
    fn one_line_that_is_read_back() {
        let report = sample::report();
        let mut out = Vec::new();
        write(&mut out, &report).unwrap();
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Report>(&out).unwrap(), report);
    }
}
