-- The scheduling rule of schedule.rs, for starts that Redis keeps. A test compares the two, call by call.
--
-- KEYS[1] has the schedule, as text; it expires. KEYS[2] has the active runs (runs.lua), KEYS[3] the limit that an operator has
-- set. The caller defines the constants in capital letters, and what limit.lua has. Arguments:
--   run, what       the run, in hexadecimal digits; 'reserve', or 'check' to reserve nothing and to see whether it could be
--   rate, share     the run's pace
--   count           how many starts it wants
--   ahead           how far from now they may be at the earliest
--   delay           how long the answer may take
--   previous        the place of the previous reservation, or 0
--   made, late      how many of its starts were made, and how long after its place the last one was
--   time            now; from the server's clock if empty
-- Returns 1 if starts are reserved, 0 if not, and 2 if the run is not there: then the server has lost what it knew, and
-- perhaps starts too; from when on, or when to try again; until when; how many runs have started requests in the last seconds;
-- the place of the reservation; the largest rate; the limit, '' if there is none; and its text. Times are in microseconds from now.
local run, what = ARGV[1], ARGV[2]
local rate, share, count = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local ahead, delay = tonumber(ARGV[6]), tonumber(ARGV[7])
local previous, made, late = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local now = tonumber(ARGV[11])
if not now then
    local time = redis.call('TIME')
    now = time[1] * SECOND + time[2]
end

local limit, limit_text = read_limit(KEYS[3])
local shown_limit = limit and string.format('%.17g', limit) or ''
local has_entry, wrong = read('HEXISTS', KEYS[2], run)
if wrong then return wrong end
if what == 'reserve' and has_entry == 0 then
    return { 2, 0, 0, 0, '', '0', shown_limit, limit_text }
end

-- Read what is possible, with the previous reservation as it was used.
local text
text, wrong = read('GET', KEYS[1])
if wrong then return wrong end
text = text or ''
local not_before = tonumber(string.match(text, '^hold (%d+)\n')) or 0
local latest, starts = now + 2 * MAX_AHEAD, {}
local is_possible = not_before <= latest
for at, till, number, of_rate, who in string.gmatch(text, '(%d+) (%d+) (%d+) (%S+) (%x+)\n') do
    local start = { at = tonumber(at), till = tonumber(till), count = tonumber(number), rate = tonumber(of_rate), run = who }
    if who == run and at == previous then
        start.count = made
        start.till = start.at + late + delay
    end
    local has_possible_rate = start.rate and start.rate > 0 and start.rate <= MAX_RATE
    if start.count == 0 or start.count > MAX_COUNT or not has_possible_rate then
        -- None of its starts was made, or it is no start.
    elseif start.at <= latest and start.till <= latest then
        starts[#starts + 1] = start
    else
        is_possible = false
    end
end
if not is_possible then not_before = now + SECOND + MARGIN end
local function is_earlier(one, other)
    if one.till ~= other.till then return one.till < other.till end
    if one.at ~= other.at then return one.at < other.at end
    return one.run < other.run
end
table.sort(starts, is_earlier)

-- Forget what is too old, except the last one.
local kept, seen, runs = {}, {}, 0
for index, start in ipairs(starts) do
    local is_recent = start.till + KEPT > now
    if is_recent or index == #starts then kept[#kept + 1] = start end
    if is_recent and not seen[start.run] then seen[start.run], runs = true, runs + 1 end
end
local function write()
    local lines = { string.format('hold %.0f\n', not_before) }
    for _, start in ipairs(kept) do
        lines[#lines + 1] =
            string.format('%.0f %.0f %d %.17g %s\n', start.at, start.till, start.count, start.rate, start.run)
    end
    lines[#lines + 1] = 'end\n'
    -- The last start matters for as long as the next one, at the lowest share, is spaced from it.
    local last = kept[#kept]
    local slowest = last and limit and limit > 0 and math.min(limit, last.rate) or last and last.rate
    local matters = last and last.till + math.max(KEPT, 2 * (SECOND + STRETCH) / slowest) or 0
    local expires = math.ceil((math.max(not_before, matters) - now) / 1000)
    redis.call('SET', KEYS[1], table.concat(lines), 'PX', math.max(1, expires))
end
if what == 'check' then
    write()
    return { 0, 0, 0, runs, '', '0', shown_limit, limit_text }
end
if limit and limit < rate then
    -- The run did not know of the limit, and asks again at that rate; or it is a pause.
    write()
    return { 0, limit > 0 and LATENESS or SECOND, 0, runs, '', ARGV[3], shown_limit, limit_text }
end

-- When the next starts are free. The run's rate applies to its earlier starts too.
local common_rate = rate
for _, start in ipairs(kept) do
    if start.run == run then start.rate = rate end
    common_rate = math.max(common_rate, start.rate)
end
local largest = string.format('%.17g', common_rate)
if limit then common_rate = math.min(common_rate, limit) end
local function spread(number) return math.floor((SECOND + STRETCH) / (common_rate * share) * number) end
local at = math.max(now + ahead, not_before)
-- What was started before the schedule began was spaced by the rate of that time, which the limit may be below.
if limit then at = math.max(at, not_before + math.floor((SECOND + MARGIN) / share)) end
-- Several starts at once may be more than the cap, if the rate was higher then.
local cap = math.ceil(common_rate)
for _, start in ipairs(kept) do at = math.max(at, start.at + spread(math.min(start.count, cap))) end
local room, counted = math.max(0, cap - count), 0
for index = #kept, 1, -1 do
    counted = counted + kept[index].count
    if counted > room then
        at = math.max(at, kept[index].till + math.floor((SECOND + MARGIN) / share))
        break
    end
end

-- Reserve them, unless they are far ahead, and write everything back.
local is_reserved, lasts = at <= now + MAX_AHEAD, spread(count - 1) + LATENESS
if is_reserved then
    if not seen[run] then runs = runs + 1 end
    kept[#kept + 1] = { at = at, till = at + lasts + delay, count = count, rate = rate, run = run }
    table.sort(kept, is_earlier)
end
write()
if not is_reserved then return { 0, at - now, 0, runs, '', largest, shown_limit, limit_text } end
return { 1, at - now, at - now + lasts, runs, string.format('%.0f', at), largest, shown_limit, limit_text }
