//! `fuzz.sh questionnaire`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use lumbar_fhir_fuzz::{mutate::mutate, targets};

fuzz_target!(|data: &[u8]| targets::questionnaire(data));
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match seed % 8 {
        0 => fuzzer_mutate(data, size, max_size),
        _ => mutate(data, size, max_size, seed),
    }
});
