#!/usr/bin/env escript
%% The same life on Erlang/OTP: N children under a simple one_for_one-like supervisor are started,
%% single ones crash, all crash at once, all are stopped. Prints the minima of some rounds as JSON.
%% escript otp.erl N ROUNDS
-module(otp).
-behaviour(supervisor).
-mode(compile).
-export([main/1, init/1, start_child/2, child/2]).

main([N, Rounds]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    Lives = [life(list_to_integer(N)) || _ <- lists:seq(1, list_to_integer(Rounds) + 1)],
    [Start, Restart, Crash, Stop] =
        [lists:min([lists:nth(I, Life) || Life <- tl(Lives)]) || I <- [1, 2, 3, 4]],
    io:format("{\"start\": ~.9f, \"restart\": ~.9f, \"crash of all\": ~.9f, \"stop\": ~.9f}~n",
              [Start, Restart, Crash, Stop]).

life(N) ->
    erlang:garbage_collect(),
    {Start, {ok, Supervisor}} =
        timed(fun() ->
                  Started = supervisor:start_link(?MODULE, {self(), N}),
                  ready(N),
                  Started
              end),
    Restarts = [restart(Supervisor) || _ <- lists:seq(1, 40)],
    timer:sleep(50),
    Children = [Child || {_, Child, _, _} <- supervisor:which_children(Supervisor)],
    {Crash, _} = timed(fun() -> [Child ! crash || Child <- Children], ready(N) end),
    Monitor = monitor(process, Supervisor),
    {Stop, _} = timed(fun() ->
                          exit(Supervisor, shutdown),
                          receive {'DOWN', Monitor, _, _, _} -> ok end
                      end),
    receive {'EXIT', Supervisor, _} -> ok end,
    [Start, lists:nth(20, lists:sort(Restarts)), Crash, Stop].

restart(Supervisor) ->
    timer:sleep(2),
    [{_, Child, _, _} | _] = supervisor:which_children(Supervisor),
    {Seconds, _} = timed(fun() -> Child ! crash, ready(1) end),
    Seconds.

timed(Do) ->
    Began = erlang:monotonic_time(nanosecond),
    Result = Do(),
    {(erlang:monotonic_time(nanosecond) - Began) / 1.0e9, Result}.

ready(0) -> ok;
ready(N) -> receive ready -> ready(N - 1) end.

init({Owner, N}) ->
    {ok, {#{strategy => one_for_one, intensity => 1000000000, period => 1},
          [#{id => Id, start => {?MODULE, start_child, [Owner, Id]}, shutdown => 5000}
           || Id <- lists:seq(1, N)]}}.

start_child(Owner, Id) -> proc_lib:start_link(?MODULE, child, [Owner, Id]).

child(Owner, _Id) ->
    proc_lib:init_ack({ok, self()}),
    Owner ! ready,
    receive crash -> exit(boom) end.
