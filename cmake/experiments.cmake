# surgeon::lab, the experiments on it, the command, and the benchmarks.
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(fmt REQUIRED)
find_path(SURGEON_TOMLPLUSPLUS_FOLDER toml++/toml.h)   # its headers are enough
mark_as_advanced(SURGEON_TOMLPLUSPLUS_FOLDER)
if(NOT SURGEON_TOMLPLUSPLUS_FOLDER)
  message(FATAL_ERROR "toml++ not found (Debian: libtomlplusplus-dev): -DSURGEON_TOMLPLUSPLUS_FOLDER=... says where.")
endif()

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
target_include_directories(surgeon_lab PRIVATE ${SURGEON_TOMLPLUSPLUS_FOLDER})

# Which tree this is, asked at each build; only one small file is compiled again when the answer changes.
find_package(Git QUIET)
set(git_hash ${PROJECT_BINARY_DIR}/git_hash.cpp)
add_custom_target(surgeon_git_hash BYPRODUCTS ${git_hash} VERBATIM COMMENT ""
                  COMMAND ${CMAKE_COMMAND} -D GIT=${GIT_EXECUTABLE} -D TREE=${PROJECT_SOURCE_DIR} -D FILE=${git_hash}
                          -P ${PROJECT_SOURCE_DIR}/cmake/git_hash.cmake)
target_sources(surgeon_lab PRIVATE ${git_hash})
add_dependencies(surgeon_lab surgeon_git_hash)
set_property(SOURCE experiments/lab/build_info.cpp PROPERTY COMPILE_DEFINITIONS SURGEON_VERSION="${PROJECT_VERSION}")

# ---- The experiments and the command -------------------------------------------------------------------------------
file(GLOB sources CONFIGURE_DEPENDS experiments/*.cpp experiments/*/*.cpp)
list(FILTER sources EXCLUDE REGEX "/(main|first_steps|real_model|bench/[a-z]+)\\.cpp$")
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

# ---- The C interface, for other languages: libsurgeon.so exports what surgeon.h declares, and nothing else -----------
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  add_library(surgeon_shared SHARED experiments/surgeon.cpp)
  surgeon_flags(surgeon_shared)
  set_target_properties(surgeon_shared PROPERTIES OUTPUT_NAME surgeon CXX_VISIBILITY_PRESET hidden
                        VISIBILITY_INLINES_HIDDEN ON)
  target_link_libraries(surgeon_shared PRIVATE surgeon_layers)
  target_link_options(surgeon_shared PRIVATE -Wl,--exclude-libs,ALL)
endif()

if(SURGEON_ONNX)   # experiments/real_model.sh
  add_executable(real_model EXCLUDE_FROM_ALL experiments/real_model.cpp)
  surgeon_flags(real_model)
  target_link_libraries(real_model PRIVATE surgeon_lab surgeon_layers fmt::fmt)
endif()

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
