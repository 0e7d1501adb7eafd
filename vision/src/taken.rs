//! What was taken of the data that a spec names, and why: said before anything is done with it.

use std::fmt;

use convoy_common::manifest::LabelKind;
use serde::Serialize;

use crate::left_out::LeftOut;

/// Source, split, task and classes, each with the reason. Its display is made for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Taken {
    /// The kind of source, and where it is.
    pub source: String,
    /// Where training and validation data come from.
    pub split: String,
    /// The kind of labels.
    pub labels: LabelKind,
    /// Why labels are of that kind.
    pub task: String,
    /// Classes, labels or targets; none where nobody has looked into the files yet.
    pub names: Vec<String>,
    /// What is left out, by which rule.
    pub left_out: LeftOut,
    /// What may not be meant.
    pub warnings: Vec<String>,
}

/// Names that are shown.
const SHOWN: usize = 12;

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (task, what) = match self.labels {
            LabelKind::Class => ("classes", "classes"),
            LabelKind::Set => ("sets of labels", "labels"),
            LabelKind::Values => ("numbers", "targets"),
        };
        writeln!(f, "source     {}", self.source)?;
        writeln!(f, "split      {}", self.split)?;
        write!(f, "task       {task}: {}", self.task)?;
        if !self.names.is_empty() {
            let rest = self.names.len().saturating_sub(SHOWN);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            let shown: Vec<&str> = self.names.iter().take(SHOWN).map(String::as_str).collect();
            write!(f, "\n{what:<10} {}: {}{more}", self.names.len(), shown.join(", "))?;
        }
        for line in self.left_out.lines() {
            write!(f, "\nleft out   {line}")?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning    {warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::left_out::Why;

    #[test]
    fn everything_that_was_taken_is_said() {
        let taken = Taken {
            source: "class folders in photos".to_owned(),
            split: "20 % held out".to_owned(),
            labels: LabelKind::Class,
            task: "a folder for each".to_owned(),
            names: (0..14).map(|number| format!("c{number}")).collect(),
            left_out: LeftOut(vec![(Why::NoPicture, "a/x.txt".to_owned())]),
            warnings: vec!["look here".to_owned()],
        };
        let text = "source     class folders in photos\nsplit      20 % held out\ntask       classes: a folder for each\n\
                    classes    14: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 and 2 more\n\
                    left out   1 (not a picture): a/x.txt\nwarning    look here";
        assert_eq!(taken.to_string(), text);
        let not_read = Taken { names: Vec::new(), ..taken }.to_string();
        assert!(!not_read.contains("classes   ") && not_read.contains("each\nleft out"), "{not_read}");
    }
}
