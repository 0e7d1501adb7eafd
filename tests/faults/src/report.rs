//! The table, for people and for scripts.

use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::rows::Row;

/// Columns of the table.
pub const HEADER: &str = "| row | what happens | tries | rolled back | done again | median s | 99 % s | worst s | digest | ledger | verdict | what was seen |\n\
    |---|---|---:|---:|---:|---:|---:|---:|---|---|---|---|";

/// A line of the table.
pub fn line(row: &Row, outcome: &Outcome) -> String {
    let mark = if row.from_healing { "↑" } else { "" };
    let seconds = |part: f64| outcome.quantile(part).map_or("-".to_owned(), |time| format!("{mark}{time:.2}"));
    let redone = outcome.redone.map_or("-".to_owned(), |redone| format!("{} {}", redone.amount, redone.unit));
    let yes = |held: Option<bool>| held.map_or("-", |held| if held { "equal" } else { "OTHER" });
    let exact = outcome.exact.map_or("-", |exact| if exact { "exact" } else { "NOT EXACT" });
    let notes: Vec<&str> =
        outcome.not_run.iter().chain(&outcome.broken).chain(&outcome.seen).map(String::as_str).collect();
    format!(
        "| {} | {} | {} | {} | {redone} | {} | {} | {} | {} | {exact} | {} | {} |",
        row.name,
        row.what,
        outcome.tries,
        outcome.rolled_back,
        seconds(0.5),
        seconds(0.99),
        seconds(1.0),
        yes(outcome.equal),
        verdict(outcome),
        notes.join("; ").replace('|', "/").replace('\n', " "),
    )
}

/// A row as one object.
pub fn json(row: &Row, outcome: &Outcome) -> Value {
    let mut object = serde_json::to_value(outcome).unwrap_or_default();
    object["row"] = json!(row.name);
    object["what"] = json!(row.what);
    object["verdict"] = json!(verdict(outcome));
    object["from_healing"] = json!(row.from_healing);
    for (name, part) in [("median_s", 0.5), ("p99_s", 0.99), ("worst_s", 1.0)] {
        object[name] = json!(outcome.quantile(part));
    }
    object
}

fn verdict(outcome: &Outcome) -> &'static str {
    match outcome.held() {
        Some(true) => "held",
        Some(false) => "NOT HELD",
        None => "not run",
    }
}
