"""Which tests are run as whom, and on which systemd: marks that ``tests/conftest.py`` gives.

A test on a real systemd is run once by ``make test``: as the user, on Debian 13. These are run
more often: all tests of a file, or those that are named, or single cases by ``name[case]``. A test
may have the mark itself as well.
``make test-all`` runs everything as both users on every systemd.
"""

Share = dict[str, tuple[str, ...]]
ALL = ()

CORE: Share = {
    # contained from the first instruction on, whoever calls, whatever it does
    "systemd/test_callers.py": ALL,
    "systemd/test_containment.py": ALL,
    "systemd/test_nested.py": ALL,
    "systemd/test_spawn.py": (
        "test_a_gateway_that_is_a_service_owns_its_members",
        "test_a_member_gets_what_popen_would_give_it",
        "test_it_is_the_member_that_run_would_make",
        "test_joining_starts_no_interpreter",
        "test_leaving_the_block_leaves_nothing_of_it_and_all_else",
        "test_what_a_killed_gateway_leaves_is_ended_by_reconcile",
    ),
    # stopped as a whole and proved
    "systemd/test_stop.py": (
        "test_a_launch_waits_for_a_stop_and_makes_the_next_life",
        "test_a_process_that_lost_only_its_main_thread_is_killed_too",
        "test_a_session_is_stopped_in_all_its_lanes",
        "test_a_stop_from_inside_ends_its_caller_and_proves_it",
        "test_a_stop_that_was_killed_is_finished_by_reconcile",
        "test_many_scopes_are_stopped_at_once",
        "test_replace_ends_the_earlier_member_before_the_command_starts",
        "test_systemds_own_stop_ends_everything_in_the_leaves",
        "test_the_grace_is_kept",
        "test_two_stops_of_one_scope_agree",
    ),
    "systemd/test_two_gateways.py": ALL,
    # ended where its gateway has
    "systemd/test_reconcile.py": ALL,
    "systemd/test_service.py": ALL,
    "systemd/test_keeper.py": (
        "test_what_a_gateway_leaves_ends_at_once",
        "test_members_of_living_gateways_in_the_same_scope_stay",
        "test_what_a_service_started_ends_with_it_however_it_ends[crash-control-group]",
        "test_what_a_service_started_ends_with_it_however_it_ends[restart-mixed]",
        "test_what_a_service_started_ends_with_it_however_it_ends[stop-process]",
        "test_the_keepers_death_ends_nothing_and_the_next_one_goes_on",
    ),
    "systemd/test_keeper_life.py": (
        "test_the_first_scope_starts_it",
        "test_a_call_starts_it_and_is_answered_of_what_runs",
    ),
    # and so for an MCP gateway and its real servers
    "gateway/test_main_job.py": ALL,
    "gateway/test_stdio_client.py": (
        "test_a_cancelled_client_leaves_nothing",
        "test_a_server_answers_the_same_and_leaves_nothing",
        "test_an_exception_inside_comes_out_and_leaves_nothing",
    ),
    "gateway/test_wrapped_server.py": ALL,
}
"""The main job: as each user, on each systemd of ``make test``."""

EACH_USER: Share = {
    # who else there is, and what of theirs is believed: root can be them, and can be misled by them
    "systemd/test_bus.py": ALL,
    "systemd/test_forged_records.py": ALL,
    "systemd/test_hardened.py": ALL,
    "systemd/test_hostile_cgroups.py": ALL,
    "systemd/test_namespaces.py": ALL,
    "systemd/test_other_users.py": ALL,
    "systemd/test_policy_of_others.py": ALL,
    "systemd/test_strange_files.py": ALL,
    "systemd/test_unkillable.py": ALL,
    # where its files, its address, its journal and its bus are
    "docs/test_readme.py": ALL,
    "systemd/test_bugreport.py": ("test_one_private_file_has_everything_and_nothing_secret",),
    "systemd/test_bus_calls.py": ALL,
    "systemd/test_doctor.py": ALL,
    "systemd/test_exec.py": (
        "test_another_user_can_neither_see_nor_type_nor_reach_the_keeper",
        "test_it_runs_in_a_scope_of_its_own_with_a_terminal_of_its_own",
    ),
    "systemd/test_history.py": (
        "test_no_argument_is_in_the_records_or_in_the_journal",
        "test_the_journal_is_told_once_for_each_end",
        "test_without_a_word_it_is_in_the_users_own_place",
    ),
    "systemd/test_install.py": ALL,
    "systemd/test_keeper.py": (
        "test_it_comes_back_to_a_bus_that_was_started_again",
        "test_it_survives_that_systemd_executes_itself_anew",
        "test_nobody_but_root_may_call_the_systems_keeper",
        "test_the_bus_lists_stops_and_adopts",
    ),
    "systemd/test_keeper_bus.py": ALL,
    "systemd/test_keeper_life.py": (
        "test_who_looks_whether_there_is_one_does_not_keep_it_from_starting",
    ),
    "systemd/test_run_records.py": ALL,
    "systemd/test_watch.py": ALL,
    "cgroup/test_standalone_keeper.py": ALL,
    # where its containers are
    "systemd/test_podman.py": ALL,
    # where tmux, which asks the user's manager, puts its panes
    "systemd/test_tmux.py": ALL,
    # where their managers make the scopes that programs ask for
    "systemd/test_returned.py": ALL,
    # into which cgroups the kernel lets it start a child
    "systemd/test_place.py": (
        "test_a_child_is_born_in_its_leaf_and_is_the_member_of_that_name",
        "test_a_gateway_that_cannot_bear_there_is_refused",
        "test_one_whose_holder_was_killed_is_a_leftover_unless_a_child_was_born_in_it",
        "test_without_a_manager_it_is_the_same",
    ),
    # what only one of them may do
    "systemd/test_not_started.py": ALL,
    "systemd/test_owned.py": (
        "test_a_launch_that_cannot_be_contained_gives_it_back",
        "test_root_is_not_led_out_of_a_folder_that_another_user_can_change",
    ),
    "systemd/test_reexec.py": ALL,
    "systemd/test_shell.py": ("test_another_user_gets_it_as_a_login_shell",),
}
"""Not the same for root and for a user: run as both."""

EACH_VERSION: Share = {
    "docs/test_readme.py": ALL,
    "systemd/test_bus_calls.py": ALL,
    "systemd/test_doctor.py": ALL,
    "systemd/test_escaped.py": ALL,
    "systemd/test_exec.py": (
        "test_how_it_ended_is_known_although_there_was_no_keeper_then",
        "test_it_runs_in_a_scope_of_its_own_with_a_terminal_of_its_own",
        "test_more_than_the_store_takes_is_refused_and_nothing_is_lost",
    ),
    "systemd/test_hangup.py": ALL,
    "systemd/test_hardened.py": ALL,
    "systemd/test_history.py": ("test_the_journal_is_told_once_for_each_end",),
    "systemd/test_install.py": (
        "test_a_killed_gateway_comes_back_without_what_it_had",
        "test_an_instance_of_the_template_runs_its_command_contained",
        "test_one_command_turns_all_of_it_on_and_another_one_leaves_nothing",
        "test_systemd_understands_every_unit_and_the_keepers_is_as_closed_as_its_head_says",
        "test_the_keeper_is_not_taken_from_a_run_that_it_holds",
        "test_the_timer_ends_an_orphan_where_no_keeper_runs",
    ),
    "systemd/test_keeper.py": (
        "test_it_comes_back_to_a_bus_that_was_started_again",
        "test_it_survives_that_systemd_executes_itself_anew",
        "test_the_bus_lists_stops_and_adopts",
    ),
    "systemd/test_keeper_bus.py": ALL,
    "systemd/test_keeper_life.py": (
        "test_a_service_has_ended_although_something_of_it_stays_in_its_cgroup",
        "test_what_a_service_started_ends_with_it_after_systemd_executed_itself_anew",
    ),
    "systemd/test_keeper_replaced.py": (
        "test_a_stop_of_the_keeper_hangs_up_on_systemd_252_and_keeps_the_terminals_from_254_on",
    ),
    "systemd/test_place.py": (
        "test_a_child_is_born_in_its_leaf_and_is_the_member_of_that_name",
        "test_a_stop_ends_what_is_born_in_an_empty_one_meanwhile",
        "test_one_that_stays_empty_is_removed_after_its_time_and_nothing_else",
        "test_one_whose_holder_was_killed_is_a_leftover_unless_a_child_was_born_in_it",
    ),
    "systemd/test_reexec.py": ALL,
    "systemd/test_shell.py": ALL,
    "systemd/test_tmux.py": ALL,
    "systemd/test_watch.py": ALL,
}
"""What systemd does for us or tells us, and older ones do or tell otherwise: run on both."""

LONG: Share = {
    "systemd/test_cron.py": ALL,
    "systemd/test_fleet.py": ALL,
    # killed at each step, many of them, each program: edges of what shorter tests prove
    "gateway/test_stdio_client.py": (
        "test_a_client_that_is_cancelled_while_it_starts_leaves_nothing",
    ),
    "systemd/test_attach.py": (
        "test_a_program_of_the_whole_screen_is_there_again_after_attaching",
    ),
    "systemd/test_examples.py": ALL,
    "systemd/test_held_pipes.py": ALL,
    "systemd/test_history.py": (
        "test_a_stop_killed_at_any_moment_leaves_a_history_that_can_be_used",
    ),
    "systemd/test_keeper_undisturbed.py": ALL,
    "systemd/test_ledger.py": ("test_each_short_command_beside_a_keeper_is_told",),
    "systemd/test_owned.py": ("test_a_launch_killed_at_any_step_has_handed_it_over_or_not",),
    "systemd/test_programs.py": ALL,
}
"""Takes long for what it adds to the main job: ``make test`` leaves it to ``make test-all``."""

MARKS = {"core": CORE, "each_user": EACH_USER, "each_version": EACH_VERSION, "long": LONG}


def marks_of(path: str, name: str) -> list[str]:
    """Return the marks of a test.

    ``path`` is its file below ``tests/``, ``name`` its function, with its case in ``[]``.
    """
    names = {name, name.partition("[")[0]}
    return [
        mark
        for mark, share in MARKS.items()
        if path in share and (share[path] == ALL or names.intersection(share[path]))
    ]
