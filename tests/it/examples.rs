//! The examples are whole programs that assert what they show; here each of them runs.

#![expect(clippy::duplicate_mod, reason = "each is a program with the simulator as a module")]

#[path = "../../examples/check_rows.rs"]
mod check_rows;
#[path = "../../examples/clear_users.rs"]
mod clear_users;
#[path = "../../examples/database.rs"]
mod database;
#[path = "../../examples/embed.rs"]
mod embed;
#[path = "../../examples/list_user.rs"]
mod list_user;
#[path = "../../examples/one_call.rs"]
mod one_call;
#[path = "../../examples/service.rs"]
mod service;
#[path = "../../examples/stream.rs"]
mod stream;

#[test]
fn a_whole_run_inside_another_program_works_as_shown() {
    embed::main().unwrap();
}

#[test]
fn rows_of_a_database_that_goes_away_work_as_shown() {
    database::main().unwrap();
}

#[test]
fn rows_of_a_stream_work_as_shown() {
    stream::main().unwrap();
}

#[test]
fn a_job_that_a_service_cancels_works_as_shown() {
    service::main().unwrap();
}

#[test]
fn one_call_works_as_shown() {
    one_call::main().unwrap();
}

#[test]
fn checking_rows_works_as_shown() {
    check_rows::main().unwrap();
}

#[test]
fn clearing_what_is_listed_of_users_works_as_shown() {
    clear_users::main().unwrap();
}

#[test]
fn listing_and_clearing_a_user_works_as_shown() {
    list_user::main().unwrap();
}
