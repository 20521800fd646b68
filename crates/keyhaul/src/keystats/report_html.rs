//! The report as one page: report.html, with the report in it as JSON. Needs no network and works from the disk.

use std::io::{self, Write};

use keyhaul_engine::stats::report::Report;

/// The page. What it shows it makes of the data, by `textContent` alone: a name of a key is never markup.
const TEMPLATE: &str = include_str!("report.html");
/// Where the data goes.
const PLACE: &str = "@REPORT@";

/// Writes the page.
pub(crate) fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let (before, after) = TEMPLATE.split_once(PLACE).unwrap_or((TEMPLATE, ""));
    out.write_all(before.as_bytes())?;
    out.write_all(inert(&serde_json::to_string(report)?).as_bytes())?;
    out.write_all(after.as_bytes())
}

/// JSON that means the same and cannot end the element that it stands in, nor begin another. These characters stand in
/// texts only, where JSON has another way to write them.
fn inert(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystats::sample;

    /// Where to leave pages for scripts/check-html.
    const PAGES: &str = "KEYHAUL_TEST_PAGES";

    fn page(report: &Report) -> String {
        let mut out = Vec::new();
        write(&mut out, report).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn data(page: &str) -> &str {
        let (_, behind) = page
            .split_once("<script type=\"application/json\" id=\"report\">")
            .unwrap();
        behind.split_once("</script>").unwrap().0
    }

    #[test]
    fn the_page_holds_the_report_and_no_name_gets_out_of_it() {
        let report = sample::report();
        let page = page(&report);
        let data = data(&page);
        assert_eq!(serde_json::from_str::<Report>(data).unwrap(), report);
        assert!(!data.contains(['<', '>', '&', '\u{2028}']));
        let listed = report.types.iter().flat_map(|row| &row.biggest_by_bytes);
        let names: Vec<&str> = listed.map(|key| key.key.as_str()).collect();
        assert!(names.contains(&sample::EVIL_KEY) && names.contains(&sample::BINARY_KEY_TEXT));
    }

    #[test]
    fn the_page_is_alone() {
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
        for outside in [
            "http:",
            "https:",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "fetch(",
        ] {
            // The name of a namespace is no address that is asked.
            let page = TEMPLATE.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn pages_for_a_browser() {
        use keyhaul_engine::stats::report::{ReportBuilder, ReportOptions, SizeKind};
        let empty = ReportBuilder::new(ReportOptions {
            has_expiries: false,
            ..ReportOptions::new(SizeKind::Record, 0)
        });
        let pages = [
            ("shop", sample::report()),
            ("random", sample::random_prefixes()),
            ("empty", empty.finish()),
        ];
        for (name, report) in pages {
            let page = page(&report);
            assert!(page.len() > TEMPLATE.len());
            if let Some(folder) = std::env::var_os(PAGES) {
                let path = std::path::Path::new(&folder).join(format!("{name}.html"));
                std::fs::write(path, page).unwrap();
            }
        }
    }
}
