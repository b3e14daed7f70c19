//! What a run looks like while it goes on.

pub mod console;
pub mod forward;
pub mod header;
pub mod heartbeat;
pub mod inquiry;
pub mod interruption;
pub mod keyboard;
pub mod libtest_json;
pub mod outputs;
pub mod pace;
pub mod running;
pub mod shown;
pub mod standing;
pub mod summary;
pub mod tail;
