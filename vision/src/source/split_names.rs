//! The names that training, validation and test data go by. All that is told by such a name is told here.

/// What a part of a data set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Train,
    Validation,
    /// Neither trained on nor looked at while training.
    Test,
}

const NAMES: [(&str, Role); 12] = [
    ("train", Role::Train),
    ("training", Role::Train),
    ("trn", Role::Train),
    ("val", Role::Validation),
    ("vali", Role::Validation),
    ("valid", Role::Validation),
    ("validation", Role::Validation),
    ("validate", Role::Validation),
    ("dev", Role::Validation),
    ("test", Role::Test),
    ("testing", Role::Test),
    ("tst", Role::Test),
];

/// Words that may follow such a name.
const SUFFIXES: [&str; 7] = ["set", "data", "dataset", "images", "imgs", "split", "samples"];

/// The role that a name tells: in any case, with or without a word such as `set` behind it, whatever separates them.
pub(crate) fn role_of(name: &str) -> Option<Role> {
    let bare: String = name.chars().filter(|c| !['_', '-', ' ', '.'].contains(c)).collect::<String>().to_lowercase();
    let is = |text: &str| NAMES.iter().find(|(known, _)| *known == text).map(|(_, role)| *role);
    is(&bare).or_else(|| SUFFIXES.iter().filter_map(|suffix| is(bare.strip_suffix(suffix)?)).next())
}

/// The role that the name of one of several files tells: as [`role_of`], with numbers behind it, such as
/// `train-00000-of-00002` has.
pub(crate) fn role_of_part(name: &str) -> Option<Role> {
    let is_number = |c: char| c.is_ascii_digit() || ['-', '_', '.', ' '].contains(&c);
    let bare = |name: &'_ str| -> usize { name.trim_end_matches(is_number).len() };
    let without = &name[..bare(name)];
    let without = without.strip_suffix("-of").map_or(without, |name| &name[..bare(name)]);
    role_of(name).or_else(|| role_of(without))
}

/// The role of a row whose field in the split column `column` is `field`: a name of a split, or whether it is what the
/// column is called (`is_valid`).
pub(crate) fn role_of_field(column: &str, field: &str) -> Option<Role> {
    let lower = column.to_lowercase();
    let asked = role_of(lower.strip_prefix("is_").unwrap_or(&lower));
    match (field.to_lowercase().as_str(), asked) {
        ("true" | "1" | "yes", Some(role)) => Some(role),
        ("false" | "0" | "no", Some(Role::Train)) => Some(Role::Validation),
        ("false" | "0" | "no", Some(_)) => Some(Role::Train),
        _ => role_of(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_roles_in_any_case_and_form() {
        let all = |names: &[&str], role| names.iter().for_each(|name| assert_eq!(role_of(name), role, "{name}"));
        all(&["train", "Train", "TRAINING", "training_set", "train-set", "trainset", "Train Data"], Some(Role::Train));
        all(&["val", "VAL", "Valid", "validation", "dev", "val_images", "validation-set"], Some(Role::Validation));
        all(&["test", "Testing", "test_set", "TestSet"], Some(Role::Test));
        all(&["trains", "set", "dataset", "testa", "valley", "device", "", "cat"], None);
    }

    #[test]
    fn parts_have_numbers_behind_their_names() {
        let all = |names: &[&str], role| names.iter().for_each(|name| assert_eq!(role_of_part(name), role, "{name}"));
        all(&["train-00000-of-00002", "train", "train_3", "Train.01", "training-set-2"], Some(Role::Train));
        all(&["validation-00000-of-00001", "val-1"], Some(Role::Validation));
        all(&["test-00000-of-00001"], Some(Role::Test));
        all(&["0000", "part-0", "data-00000-of-00002", "-of", "", "trains-1"], None);
    }

    #[test]
    fn a_field_is_a_name_or_says_whether_it_is_what_the_column_says() {
        assert_eq!(role_of_field("split", "Training"), Some(Role::Train));
        assert_eq!(role_of_field("is_valid", "True"), Some(Role::Validation));
        assert_eq!(role_of_field("is_valid", "False"), Some(Role::Train));
        assert_eq!(role_of_field("is_train", "0"), Some(Role::Validation));
        assert_eq!(role_of_field("split", "True"), None);
        assert_eq!(role_of_field("split", ""), None);
    }
}
