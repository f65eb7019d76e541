-- The runs that share the quota through Redis: each renews its entry all the time, and is gone soon after it stops to.
--
-- KEYS[1] has the entries: a hash; under each run, when it was renewed, and the entry. The key expires. KEYS[2] has the limit
-- that an operator has set. The caller defines the constants in capital letters, and what limit.lua has. Arguments:
--   run, what       the run, in hexadecimal digits; 'join', 'join alone' unless there are others, 'renew' or 'leave'; or 'look',
--                   of no run, which writes nothing
--   entry           what others are told of the run
--   since           others count as sharing if they were renewed after this time
-- Returns the time; whether the run was there; how many others are; how many of them share; their entries, unless it renews;
-- the limit, '' if there is none; and its text. Times are in microseconds.
local run, what, entry, since = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * SECOND + time[2]

local was_there, others, sharing, entries = 0, 0, 0, {}
local all, wrong = read('HGETALL', KEYS[1])
if wrong then return wrong end
for index = 1, #all, 2 do
    local who, renewed, text = all[index], string.match(all[index + 1], '^(%d+) (.*)$')
    renewed = tonumber(renewed)
    if what == 'look' and not renewed then
        -- It is no entry. A run that renews its own removes it.
        others = others + 1
    elseif not renewed or renewed + PRESENT_FOR <= now or renewed > now + PRESENT_FOR then
        -- It is no longer there, or the clock has gone back.
        if what ~= 'look' then redis.call('HDEL', KEYS[1], who) end
    elseif who == run then
        was_there = 1
    else
        others = others + 1
        if renewed > since then sharing = sharing + 1 end
        if what ~= 'renew' and #entries < MAX_ENTRIES then entries[#entries + 1] = text end
    end
end

local limit, limit_text, has_end = read_limit(KEYS[2])
if what == 'leave' then
    redis.call('HDEL', KEYS[1], run)
elseif what == 'look' then
    -- It is no run.
elseif what ~= 'join alone' or others == 0 then
    redis.call('HSET', KEYS[1], run, string.format('%.0f %s', now, entry))
    redis.call('PEXPIRE', KEYS[1], math.ceil(2 * PRESENT_FOR / 1000))
    -- A limit without an end is kept as long as it is in use.
    if limit and not has_end then redis.call('PEXPIRE', KEYS[2], LIMIT_KEPT_FOR) end
end
limit = limit and string.format('%.17g', limit) or ''
return { string.format('%.0f', now), was_there, others, sharing, entries, limit, limit_text }
