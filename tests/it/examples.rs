//! The examples are whole programs that assert what they show; here each of them runs.

#[path = "../../examples/check_rows.rs"]
mod check_rows;
#[path = "../../examples/embed.rs"]
mod embed;
#[path = "../../examples/list_user.rs"]
mod list_user;
#[path = "../../examples/one_call.rs"]
mod one_call;

#[test]
fn a_whole_run_inside_another_program_works_as_shown() {
    embed::main().unwrap();
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
fn listing_and_clearing_a_user_works_as_shown() {
    list_user::main().unwrap();
}
