//! `keyhaul keystats`: what a source holds.

#![allow(dead_code, reason = "the command line that calls it follows")]

mod csv;
mod report_csv;
mod report_html;
mod report_page;
mod text_table;

#[cfg(test)]
mod sample;
