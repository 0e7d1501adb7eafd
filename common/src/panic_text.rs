//! The message of a caught panic.

use std::any::Any;

/// The message of a panic that [`catch_unwind`](std::panic::catch_unwind) returned; `without words` if it has none.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_text_are_read() {
        let check = |panic: Box<dyn Any + Send>, text: &str| assert_eq!(panic_text(panic.as_ref()), text);
        check(Box::new("a literal"), "a literal");
        check(Box::new("a string".to_owned()), "a string");
        check(Box::new(7), "without words");
    }
}
