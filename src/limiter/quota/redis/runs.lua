-- The runs that share the quota through Redis: each renews its entry all the time, and is gone soon after it stops to.
--
-- KEYS[1] has the entries: a hash; under each run, when it was renewed, and the entry. The key expires. The caller defines the
-- constants in capital letters. Arguments:
--   run, what       the run, in hexadecimal digits; 'join', 'join alone' unless there are others, 'renew' or 'leave'
--   entry           what others are told of the run
--   since           others count as sharing if they were renewed after this time
-- Returns the time; whether the run was there; how many others are; how many of them share; and their entries, unless it
-- renews. Times are in microseconds.
local run, what, entry, since = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * SECOND + time[2]

local was_there, others, sharing, entries = 0, 0, 0, {}
local all = redis.call('HGETALL', KEYS[1])
for index = 1, #all, 2 do
    local who, renewed, text = all[index], string.match(all[index + 1], '^(%d+) (.*)$')
    renewed = tonumber(renewed)
    if not renewed or renewed + PRESENT_FOR <= now or renewed > now + PRESENT_FOR then
        -- It is no longer there, or the clock has gone back.
        redis.call('HDEL', KEYS[1], who)
    elseif who == run then
        was_there = 1
    else
        others = others + 1
        if renewed > since then sharing = sharing + 1 end
        if what ~= 'renew' and others <= MAX_ENTRIES then entries[others] = text end
    end
end

if what == 'leave' then
    redis.call('HDEL', KEYS[1], run)
elseif what ~= 'join alone' or others == 0 then
    redis.call('HSET', KEYS[1], run, string.format('%.0f %s', now, entry))
    redis.call('PEXPIRE', KEYS[1], math.ceil(2 * PRESENT_FOR / 1000))
end
return { string.format('%.0f', now), was_there, others, sharing, entries }
