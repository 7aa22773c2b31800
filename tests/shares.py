"""Which tests are run as whom, and on which systemd: marks that ``tests/conftest.py`` gives.

A test on a real systemd is run once by ``make test``: as the user, on Debian 13. CORE and BOTH are
run more often: all tests of a file, or those that are named, or single cases by ``name[case]``. A
test may have the mark itself as well.
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
    "systemd/test_cohort_stop.py": (
        "test_a_forked_child_ends_nothing_of_its_parents",
        "test_a_launch_that_is_stopped_on_its_way_is_ended",
        "test_a_member_that_is_a_run_itself_is_stopped_where_it_went[-gateway]",
        "test_what_had_left_a_scope_is_named_and_ended[False]",
        "test_what_members_launched_is_stopped_and_nothing_else",
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
        "test_a_server_that_is_wrapped_already_leaves_nothing",
        "test_an_exception_inside_comes_out_and_leaves_nothing",
    ),
    "gateway/test_wrapped_server.py": ALL,
}
"""The main job: as the user, on both Debians."""

BOTH: Share = {
    "gateway/test_main_job.py": ALL,
    "systemd/test_containment.py": ALL,
    "systemd/test_service.py": ALL,
    "systemd/test_cohort_stop.py": ("test_a_launch_that_is_stopped_on_its_way_is_ended",),
    "systemd/test_keeper.py": ("test_what_a_gateway_leaves_ends_at_once",),
    "systemd/test_spawn.py": ("test_what_a_killed_gateway_leaves_is_ended_by_reconcile",),
    "systemd/test_stop.py": (
        "test_a_session_is_stopped_in_all_its_lanes",
        "test_a_stop_that_was_killed_is_finished_by_reconcile",
    ),
}
"""The heart of it: also as root. The rest of it is the same for both users."""

LONG: Share = {
    "storm/test_day.py": ALL,
    "systemd/test_keeper_rewrap.py": ALL,
    "systemd/test_cron.py": ALL,
    "systemd/test_call_counts.py": ALL,
    "systemd/test_fleet.py": ALL,
    "model/test_model.py": (
        "test_what_the_model_has_wrong_is_found",
        "test_what_is_done_behind_the_models_back_is_found",
        "test_a_difference_is_shrunk",
    ),
    "systemd/test_label.py": ALL,
    "systemd/test_later_scopes.py": ALL,
    # whose a member is where it is not plain, and what becomes of what left it
    "systemd/test_abandoned.py": ALL,
    "systemd/test_client_sessions.py": ALL,
    "systemd/test_escaped.py": ALL,
    "systemd/test_hook.py": ALL,
    "systemd/test_returned.py": ALL,
    "systemd/test_same_process.py": ALL,
    "systemd/test_shared_daemons.py": ALL,
    "systemd/test_true_ends.py": ALL,
    "systemd/test_wrapped_clients.py": ALL,
    "systemd/test_clients.py": (
        "test_a_client_in_a_service_that_is_not_its_own_ends_alone",
        "test_what_passes_its_stdin_on_is_not_the_client",
    ),
    # edges beside the main job: hostile neighbours, places, containers, what a report has
    "cgroup/test_cgroup_bugreport.py": ALL,
    "systemd/test_bugreport.py": ALL,
    "systemd/test_many_others.py": ALL,
    "systemd/test_went_on.py": ALL,
    "systemd/test_end_details.py": ALL,
    "systemd/test_exec_edges.py": ALL,
    "systemd/test_forged_records.py": ALL,
    "systemd/test_gate.py": ALL,
    "systemd/test_faults_bus.py": ALL,
    "systemd/test_faults_manager.py": ALL,
    "systemd/test_faults_reload.py": ALL,
    "systemd/test_faults_room.py": ALL,
    "systemd/test_fuzzed_keeper.py": ALL,
    "systemd/test_changing_cgroups.py": ALL,
    "systemd/test_forged_others.py": ALL,
    "systemd/test_hostile_cgroups.py": ALL,
    "systemd/test_hostile_chmod.py": ALL,
    "systemd/test_hostile_forks.py": ALL,
    "systemd/test_hostile_leavers.py": ALL,
    "systemd/test_hostile_members.py": ALL,
    "systemd/test_nothing_raw.py": ALL,
    "systemd/test_raw_bus.py": ALL,
    "systemd/test_sudo.py": ALL,
    "systemd/test_two_users.py": ALL,
    "systemd/test_oom_score.py": ALL,
    "systemd/test_one_reason.py": ALL,
    "systemd/test_outliving.py": ALL,
    "systemd/test_place.py": ALL,
    "systemd/test_podman.py": ALL,
    "systemd/test_scratch.py": ALL,
    "systemd/test_setup.py": ALL,
    "systemd/test_setup_edges.py": ALL,
    "systemd/test_status_owners.py": ALL,
    "systemd/test_stderr.py": ALL,
    # without systemd, and what the pages of how-to show
    "cgroup/test_cgroup_setup.py": ALL,
    "cgroup/test_cgroup_event_commands.py": ALL,
    "cgroup/test_standalone_keeper.py": ALL,
    "cgroup/test_standalone_runs.py": ALL,
    "cgroup/test_cgroup_notices.py": ALL,
    "systemd/test_logout.py": ALL,
    "systemd/test_python_functions.py": ALL,
    "systemd/test_host_views.py": ALL,
    "systemd/test_hosts.py": ALL,
    "systemd/test_how_to_alerts.py": ALL,
    "systemd/test_how_to_containers.py": ALL,
    "systemd/test_how_to_gateways.py": ALL,
    "systemd/test_how_to_limits.py": ALL,
    "systemd/test_how_to_machines.py": ALL,
    "systemd/test_how_to_remove.py": ALL,
    "systemd/test_inside_podman.py": ALL,
    # bad input, what others left in the way, what is installed: unit tests have most of it
    "systemd/test_bad_input.py": ALL,
    "systemd/test_bash_folder.py": ALL,
    "systemd/test_foreign.py": ALL,
    "systemd/test_install.py": ALL,
    "systemd/test_gateway_report.py": ALL,
    "systemd/test_claude_code_plugin.py": ALL,
    "systemd/test_doctor.py": (
        "test_an_interrupted_trial_leaves_no_scope",
        "test_its_verdict_is_what_a_launch_meets_wherever_it_is_called",
    ),
    "systemd/test_exec_silent.py": ALL,
    "systemd/test_interrupted.py": ALL,
    # what is chosen and shown, whom else it meets, many at once
    "systemd/test_bus_calls.py": ALL,
    "systemd/test_completion.py": ALL,
    "systemd/test_containers.py": ALL,
    "systemd/test_keeper_replaced.py": ALL,
    "systemd/test_openclaw_status.py": ALL,
    "systemd/test_output.py": ALL,
    "systemd/test_policy_of_others.py": ALL,
    "systemd/test_race.py": ALL,
    "systemd/test_run_records.py": ALL,
    "systemd/test_selectors.py": ALL,
    "systemd/test_strange_files.py": ALL,
    "systemd/test_tmux.py": ALL,
    "systemd/test_windows.py": ALL,
    # what a client does beside starting servers
    "systemd/test_shell_prefix.py": ALL,
    "systemd/test_titles.py": ALL,
    # how lists are filtered, sorted and drawn, processes, ports
    "systemd/test_event_commands.py": ALL,
    "systemd/test_journal_names.py": ALL,
    "systemd/test_list_options.py": ALL,
    "systemd/test_listing.py": ALL,
    "systemd/test_metrics.py": ALL,
    "systemd/test_top.py": ALL,
    "systemd/test_report.py": ALL,
    "systemd/test_watch.py": ALL,
    # killed at each step, many of them, each program: edges of what shorter tests prove
    "gateway/test_stdio_client.py": (
        "test_a_client_that_is_cancelled_while_it_starts_leaves_nothing",
    ),
    "systemd/test_exec.py": (
        "test_how_it_ended_is_known_although_there_was_no_keeper_then",
        "test_more_than_the_store_takes_is_refused_and_nothing_is_lost",
        "test_no_byte_is_lost_or_doubled_by_what_happens_to_the_keeper",
        "test_one_that_takes_too_long_is_warned_of_and_ended",
        "test_one_that_writes_without_end_and_one_that_reads_nothing_stall_nobody",
    ),
    "systemd/test_keeper_life.py": (
        "test_killed_at_any_moment_of_a_stop_it_leaves_the_rest_to_the_next",
    ),
    "systemd/test_reconcile.py": (
        "test_a_leaf_whose_launch_was_killed_before_its_record_is_removed",
        "test_a_leaf_without_a_record_stays_while_a_process_lives_in_it",
    ),
    "systemd/test_run_life.py": (
        "test_the_next_life_of_a_killed_gateway_adopts_a_run_and_the_other_ends_by_its_lanes_grace",
        "test_reconcile_alone_ends_by_the_grace_what_ignores_the_hangup_of_its_lost_terminal",
    ),
    "systemd/test_spawn.py": ("test_what_cannot_be_executed_raises_and_leaves_nothing",),
    "systemd/test_stop.py": (
        "test_a_word_says_what_to_stop",
        "test_what_is_frozen_can_end_by_itself_like_what_is_stopped",
    ),
    "systemd/test_attach.py": (
        "test_three_look_at_one_and_its_window_fits_the_smallest_who_types",
        "test_a_program_of_the_whole_screen_is_there_again_after_attaching",
    ),
    "systemd/test_examples.py": ALL,
    "systemd/test_held_pipes.py": ALL,
    "systemd/test_history.py": (
        "test_a_stop_killed_at_any_moment_leaves_a_history_that_can_be_used",
        "test_options_and_a_pair_narrow_it_down",
        "test_what_runs_comes_first_and_only_the_newest_ends_follow",
        "test_why_takes_whatever_names_it",
    ),
    "systemd/test_keeper_undisturbed.py": ALL,
    "systemd/test_hangup.py": ALL,
    "systemd/test_hardened.py": ALL,
    "systemd/test_ledger.py": ALL,
    "systemd/test_lives.py": ALL,
    "systemd/test_policy.py": ALL,
    "systemd/test_typing.py": ALL,
    "systemd/test_owned.py": ("test_a_launch_killed_at_any_step_has_handed_it_over_or_not",),
    "systemd/test_programs.py": ALL,
    # what pages show; README's is shown by make test as well
    "docs/test_docs.py": (
        "test_a_client_is_contained_checked_and_released_by_its_section",
        "test_what_it_shows_is_what_is_printed",
    ),
    # on this machine: tests of the tests and of packaging, random files, and what a hostile output
    # costs
    "docs/test_contributing.py": ALL,
    "docs/test_explanation.py": ALL,
    "docs/test_site.py": ALL,
    "e2e/clients/test_model.py": ALL,
    "e2e/test_parts.py": ALL,
    "lab/test_lab.py": ALL,
    "parts/test_parts.py": ALL,
    "pictures/test_svg.py": ALL,
    "unit/test_bugreport.py": ALL,
    "unit/test_changing_tree.py": ALL,
    "unit/test_cli_report.py": ALL,
    "unit/test_cli_hooks.py": ALL,
    "unit/test_cli_logs.py": ALL,
    "unit/test_cli_openclaw.py": ALL,
    "unit/test_cli_policy.py": ALL,
    "unit/test_cli_setup.py": ALL,
    "unit/test_cli_wrap.py": ALL,
    "unit/test_cli_wrap_left.py": ALL,
    "unit/test_connector.py": ALL,
    "unit/test_dead_code.py": ALL,
    "unit/test_distributions.py": ALL,
    "unit/test_documents.py": ALL,
    "unit/test_edit_diff.py": ALL,
    "unit/test_hook.py": ALL,
    "unit/test_hooks.py": ALL,
    "unit/test_inotify.py": ALL,
    "unit/test_json5.py": ALL,
    "unit/test_openclaw_plugin.py": ALL,
    "unit/test_opencode_plugin.py": ALL,
    "unit/test_output.py": ALL,
    "unit/test_owned_tree.py": ALL,
    "unit/test_packaging.py": ALL,
    "unit/test_placing.py": ALL,
    "unit/test_plan_machine.py": ALL,
    "unit/test_prerequisites.py": ALL,
    "unit/test_processes.py": ALL,
    "unit/test_pty_attach.py": ALL,
    "unit/test_pty_exec.py": ALL,
    "unit/test_pty_log.py": ALL,
    "unit/test_pty_messages.py": ALL,
    "unit/test_pty_screen.py": ALL,
    "unit/test_pty_server.py": ALL,
    "unit/test_pty_silence.py": ALL,
    "unit/test_pty_text.py": ALL,
    "unit/test_pty_wait.py": ALL,
    "unit/test_python_arguments.py": ALL,
    "unit/test_search.py": ALL,
    "unit/test_shell.py": ALL,
    "unit/test_shell_prefix.py": ALL,
    "unit/test_strange_documents.py": ALL,
    "unit/test_strange_policies.py": ALL,
    "unit/test_titles.py": ALL,
    "unit/test_toml_places.py": ALL,
    "unit/test_wrapping.py": ALL,
    "unit/test_wrapping_yaml.py": ALL,
    "unit/test_history.py": (
        "test_every_text_and_number_comes_back",
        "test_killed_at_any_step_of_a_write_it_is_whole",
    ),
    "unit/test_direct.py": ("test_an_interrupt_at_any_moment_ends_it_and_prints_nothing",),
}
"""Takes long and adds little to the main job: ``make test`` leaves it to ``make test-all``."""

MARKS = {"core": CORE, "both": BOTH, "long": LONG}


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
