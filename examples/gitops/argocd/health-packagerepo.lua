-- Health of a PackageRepo: Healthy, Progressing (it gets there by itself) or Degraded (somebody must act).
-- Argo CD runs it as Lua 5.1 without the libraries string and math.
-- IndexUpToDate does not count: the packages are served whatever it says.
local aspects = {"Accepted", "SecretsResolved", "Programmed"}
local waiting = {Programmed = true} -- not so yet, and nobody need act

local function health(status, message)
  return {status = status, message = message}
end

local status = obj.status
if status == nil or status.conditions == nil then
  return health("Progressing", "The operator has not seen it yet.")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not seen this version yet.")
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local ready = found.Ready
if ready ~= nil and ready.status == "True" then
  return health("Healthy", ready.message)
end
for _, aspect in ipairs(aspects) do
  local condition = found[aspect]
  if condition ~= nil and condition.status ~= "True" then
    if condition.status == "Unknown" or waiting[aspect] then
      return health("Progressing", condition.message)
    end
    return health("Degraded", condition.message)
  end
end
return health("Progressing", ready ~= nil and ready.message or "It is not Ready yet.")
