# surgeon::lab, the experiments on it, the command, and the benchmarks.
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(fmt REQUIRED)

# ---- What an experiment stands on, in this house or in another program ---------------------------------------------
set(sources "")
set(headers "")
foreach(part lab figures format)
  file(GLOB found CONFIGURE_DEPENDS experiments/${part}.cpp experiments/${part}/*.cpp)
  list(APPEND sources ${found})
  list(APPEND headers ${PROJECT_SOURCE_DIR}/experiments/${part}.hpp)
endforeach()
set(lab_sources ${sources})
surgeon_library(lab "${lab_sources}" "${headers}")
target_link_libraries(surgeon_lab PUBLIC surgeon_framework PRIVATE fmt::fmt
                      $<BUILD_INTERFACE:CLI11::CLI11> $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)

# Which tree this is: configured again whenever HEAD moves, compiled into one small file.
set(GIT_HASH unknown)
find_package(Git QUIET)
if(Git_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --git-path logs/HEAD --short=12 HEAD
                  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} RESULT_VARIABLE failed
                  OUTPUT_VARIABLE lines OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT failed)
    string(REPLACE "\n" ";" lines "${lines}")
    list(GET lines 0 head_log)
    list(GET lines 1 GIT_HASH)
    cmake_path(ABSOLUTE_PATH head_log BASE_DIRECTORY ${PROJECT_SOURCE_DIR})
    if(EXISTS ${head_log})
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${head_log})
    endif()
  endif()
endif()
set_property(SOURCE experiments/lab/build_info.cpp PROPERTY COMPILE_DEFINITIONS
             SURGEON_VERSION="${PROJECT_VERSION}" SURGEON_GIT_HASH="${GIT_HASH}")

# ---- The experiments and the command -------------------------------------------------------------------------------
file(GLOB sources CONFIGURE_DEPENDS experiments/*.cpp experiments/*/*.cpp)
list(FILTER sources EXCLUDE REGEX "/(main|first_steps|bench/[a-z]+)\\.cpp$")
list(REMOVE_ITEM sources ${lab_sources})
add_library(surgeon_experiments STATIC ${sources})
surgeon_flags(surgeon_experiments)
target_link_libraries(surgeon_experiments PUBLIC surgeon_lab surgeon_layers
                      PRIVATE fmt::fmt nlohmann_json::nlohmann_json)

add_executable(surgeon experiments/main.cpp)
surgeon_flags(surgeon)
target_link_libraries(surgeon PRIVATE surgeon_experiments)
add_executable(first_steps experiments/first_steps.cpp)
surgeon_flags(first_steps)
target_link_libraries(first_steps PRIVATE surgeon_layers)

# ---- Benchmarks: built on request, by experiments/bench/run.sh -----------------------------------------------------
add_executable(surgeon_serve EXCLUDE_FROM_ALL experiments/bench/serve.cpp experiments/bench/works.cpp)
surgeon_flags(surgeon_serve)
target_link_libraries(surgeon_serve PRIVATE surgeon_layers nlohmann_json::nlohmann_json fmt::fmt)
find_package(benchmark QUIET)
if(benchmark_FOUND)
  add_executable(surgeon_bench EXCLUDE_FROM_ALL experiments/bench/google.cpp experiments/bench/works.cpp)
  surgeon_flags(surgeon_bench)
  target_link_libraries(surgeon_bench PRIVATE surgeon_layers benchmark::benchmark fmt::fmt)
endif()
