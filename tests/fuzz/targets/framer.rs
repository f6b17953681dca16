#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cloudmap_dns_fuzz::framer::check(input));
