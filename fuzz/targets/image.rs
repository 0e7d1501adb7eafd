#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| convoy_fuzz_harness::feed("image", bytes));
